//! The console between a guest and the runner: requests are taken out, all else passes at once.

use assay_protocol::line::SERVICE;

/// The longest request that is taken for one.
const MAX_REQUEST: usize = 512;

/// A piece of console.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes for the runner.
    Bytes(Vec<u8>),
    /// A request: what follows `# service `.
    Request(String),
}

/// Finds the requests in a stream of bytes.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The start of a line that may become a request.
    held: Vec<u8>,
    /// Inside a line that is none.
    passing: bool,
}

impl Splitter {
    /// Feeds `bytes`; the pieces are in their order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut out = Vec::new();
        for &byte in bytes {
            if self.passing {
                out.push(byte);
                self.passing = byte != b'\n';
                continue;
            }
            self.held.push(byte);
            let prefix = SERVICE.as_bytes();
            let shared = self.held.len().min(prefix.len());
            let fits = self.held[..shared] == prefix[..shared] && self.held.len() <= MAX_REQUEST;
            if !fits {
                self.passing = byte != b'\n';
                out.append(&mut self.held);
            } else if byte == b'\n' {
                if !out.is_empty() {
                    pieces.push(Piece::Bytes(std::mem::take(&mut out)));
                }
                let line = String::from_utf8_lossy(&self.held[prefix.len().min(self.held.len())..]);
                pieces.push(Piece::Request(line.trim().to_owned()));
                self.held.clear();
            }
        }
        if !out.is_empty() {
            pieces.push(Piece::Bytes(out));
        }
        pieces
    }

    /// What is left when the console ends.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_out() {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for byte in b"# start 1 a\n# service 7 migrate\r\n# serving\nx# service 8 no\n# ser" {
            pieces.extend(splitter.feed(&[*byte]));
        }
        pieces.push(Piece::Bytes(splitter.finish()));
        let mut text = Vec::new();
        let mut requests = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => text.extend(bytes),
                Piece::Request(request) => requests.push(request),
            }
        }
        assert_eq!(requests, ["7 migrate"]);
        assert_eq!(text, b"# start 1 a\n# serving\nx# service 8 no\n# ser");
    }

    #[test]
    fn order_is_kept_within_a_chunk() {
        let pieces = Splitter::default().feed(b"a\n# service 1 x\nb\n");
        assert_eq!(
            pieces,
            [
                Piece::Bytes(b"a\n".to_vec()),
                Piece::Request("1 x".into()),
                Piece::Bytes(b"b\n".to_vec())
            ]
        );
    }

    #[test]
    fn a_request_without_an_end_is_let_through() {
        let mut text = b"# service ".to_vec();
        text.extend(std::iter::repeat_n(b'x', 4096));
        let mut splitter = Splitter::default();
        let pieces = splitter.feed(&text);
        assert_eq!(pieces, [Piece::Bytes(text)]);
    }
}
