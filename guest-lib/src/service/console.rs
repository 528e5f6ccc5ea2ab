//! Requests over the console: the way to a supervisor beside the hypervisor.

use super::ServiceError;
use crate::arch::{cpu, platform};
use crate::line;
use alloc::string::String;
use assay_protocol::service::{Answer, Question, Reply, Request};
use core::sync::atomic::{AtomicU32, Ordering};

/// The longest answer that is kept.
const LONGEST: usize = 512;

/// Prints the question, does `meanwhile` again and again, and reads the answer.
pub fn ask(request: Request, mut meanwhile: impl FnMut()) -> Result<(), ServiceError> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    platform::console_listen(true);
    while platform::console_read().is_some() {}
    line!("{}", Question { number, request });
    let mut text = String::new();
    let result = loop {
        meanwhile();
        // Each poll takes the lock under which the host works on its answer. No clock is read in
        // between, for that may take the same lock, and the clock may stand still.
        for i in 0..cpu::RELAXES_BETWEEN_POLLS {
            // Where the hint is no instruction, an empty loop would vanish.
            core::hint::black_box(i);
            cpu::relax();
        }
        let mut complete = false;
        while !complete && let Some(byte) = platform::console_read() {
            complete = byte == b'\n';
            if byte != b'\n' && text.len() < LONGEST {
                text.push(char::from(byte));
            }
        }
        if !complete {
            continue;
        }
        match Reply::parse(&text) {
            Some(reply) if reply.number == number => break heard(reply.answer),
            // An answer to somebody who no longer waits.
            _ => text.clear(),
        }
    };
    platform::console_listen(false);
    result
}

fn heard(answer: Answer<'_>) -> Result<(), ServiceError> {
    match answer {
        Answer::Done(_) => Ok(()),
        Answer::Unknown => Err(ServiceError::Unknown),
        Answer::Failed(why) => Err(ServiceError::Failed(why.into())),
    }
}
