//! The device tree reader. Spec: Devicetree 0.4 5.
//!
//! The tree is the first thing that a hypervisor hands over, so a wrong one must end in a message, not
//! in a stray read. The real tree of this machine is read, then spoiled byte by byte: whatever
//! comes out, reading ends and stays within the tree.

use guest_lib::arch::dtb::{Error, Tree};
use guest_lib::arch::platform;
use guest_lib::prelude::*;

/// How much of the tree has content: QEMU's states a size of 1 MiB and fills a few KiB.
fn content() -> Vec<u8> {
    let tree = platform::tree();
    let word = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().unwrap_or([0; 4]));
    let end = (word(8) + word(36))
        .max(word(12) + word(32))
        .max(word(16) + 16) as usize;
    let mut bytes = tree[..end].to_vec();
    bytes[4..8].copy_from_slice(&(end as u32).to_be_bytes());
    bytes
}

fn count_nodes(bytes: &[u8]) -> Result<usize, Error> {
    let mut nodes = 0;
    Tree::new(bytes)?.walk(|node| {
        nodes += 1;
        let _ = (node.reg(0), node.text("compatible"), node.number("phandle"));
    })?;
    Ok(nodes)
}

/// The machine's own tree is read to its end.
#[case(spec = "Devicetree 0.4 5")]
fn real_tree_is_read() -> Verdict {
    let nodes = count_nodes(&content());
    note!("{nodes:?} nodes in {} bytes", content().len());
    expect_eq!(nodes.is_ok_and(|n| n > cpus::count()), true)
}

/// A tree that is cut off anywhere is refused.
#[case(spec = "Devicetree 0.4 5")]
fn truncated_trees_are_refused() -> Verdict {
    let bytes = content();
    for length in (0..bytes.len())
        .step_by(61)
        .chain([0, 3, 4, 7, 39, 40, bytes.len() - 1])
    {
        expect_eq!(
            count_nodes(&bytes[..length]).is_err(),
            true,
            "cut at byte {length}"
        )?;
    }
    Ok(())
}

/// Wrong magic, size, version and offsets are refused, each by its name.
#[case(spec = "Devicetree 0.4 5")]
fn wrong_headers_are_refused() -> Verdict {
    let good = content();
    let with = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        count_nodes(&bytes)
    };
    expect_eq!(with(0, 0xd00d_feee), Err(Error::Magic(0xd00d_feee)))?;
    expect_eq!(with(4, 39), Err(Error::Size(39)))?;
    expect_eq!(with(4, !0), Err(Error::Size(!0)))?;
    expect_eq!(with(20, 16), Err(Error::Version(16, 16)))?;
    expect_eq!(with(24, 18).is_err(), true)?;
    for at in [8, 12, 16] {
        expect_eq!(
            with(at, !0),
            Err(Error::Bounds(0xffff_ffff)),
            "offset at {at}"
        )?;
    }
    expect_eq!(with(0, 0xd00d_feed).is_ok(), true)
}

/// Whatever single byte is spoiled, reading ends, without a fault.
#[case(spec = "Devicetree 0.4 5")]
fn spoiled_bytes_are_survived() -> Verdict {
    let mut bytes = content();
    let head = (0..64).chain((64..bytes.len()).step_by(bytes.len() / 300 + 1));
    for at in head.collect::<Vec<_>>() {
        let old = bytes[at];
        for value in [0, 0xff, old ^ 1, old ^ 0x80] {
            bytes[at] = value;
            fault::catch(|| count_nodes(&bytes).is_ok())?;
        }
        bytes[at] = old;
    }
    expect_eq!(count_nodes(&bytes).is_ok(), true)
}
