//! Where everything lies, and the device tree that says so.
//! Spec: Linux Documentation/arch/arm64/booting; Devicetree Specification 0.4.

use std::ops::Range;
use vm_fdt::{FdtWriter, FdtWriterResult};

/// GICv3 distributor, 64 KiB.
pub const DISTRIBUTOR: u64 = 0x0800_0000;
/// GICv3 redistributors, 128 KiB for each processor, up to the console.
pub const REDISTRIBUTORS: u64 = 0x080a_0000;
const DISTRIBUTOR_BYTES: u64 = 0x1_0000;
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// The console, one page.
pub const CONSOLE: Range<u64> = 0x0900_0000..0x0900_1000;
/// The first byte of memory. The device tree lies there, the image above it.
pub const MEMORY: u64 = 0x4000_0000;
/// The most processors that the redistributors have room for.
pub const MAX_CPUS: u32 = ((CONSOLE.start - REDISTRIBUTORS) / REDISTRIBUTOR_BYTES) as u32;

/// An Image wants a base of this alignment, and a device tree is no longer than that.
const ALIGNMENT: u64 = 2 << 20;
const MAGIC: &[u8; 4] = b"ARM\x64";
const HEADER: usize = 64;

/// Where the image with these first bytes is loaded and entered. `length` is that of its file.
pub fn place(image: &[u8], length: u64, memory: u64) -> Result<u64, String> {
    let header = image
        .get(..HEADER)
        .filter(|header| &header[56..60] == MAGIC)
        .ok_or("it is no arm64 Image")?;
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
    let (offset, size) = (word(8), word(16).max(length));
    let at = MEMORY + ALIGNMENT;
    let fits = at
        .checked_add(offset)
        .and_then(|start| Some((start, start.checked_add(size)?)))
        .filter(|(_, end)| *end <= MEMORY + memory);
    let (start, _) = fits.ok_or("it does not fit into the memory")?;
    Ok(start)
}

// Nothing overlaps.
const _: () = assert!(DISTRIBUTOR + DISTRIBUTOR_BYTES <= REDISTRIBUTORS);
const _: () = assert!(MAX_CPUS == 123 && CONSOLE.end <= MEMORY);

const GIC: u32 = 1;
const CLOCK: u32 = 2;
/// First cell of an interrupt: a private one.
const PPI: u32 = 1;
const LEVEL_HIGH: u32 = 4;
/// PPIs of KVM's timers: secure physical, physical, virtual, hypervisor's.
const TIMERS: [u32; 4] = [13, 14, 11, 10];

/// The device tree of a machine with `memory` bytes and processors of these affinities, the boot
/// processor first.
pub fn tree(command_line: &str, memory: u64, affinities: &[u64]) -> Result<Vec<u8>, String> {
    let tree = write(command_line, memory, affinities).map_err(|e| e.to_string())?;
    if tree.len() as u64 > ALIGNMENT {
        return Err("the device tree is too long".into());
    }
    Ok(tree)
}

fn write(command_line: &str, memory: u64, affinities: &[u64]) -> FdtWriterResult<Vec<u8>> {
    let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;

    let chosen = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", command_line)?;
    let console = format!("pl011@{:x}", CONSOLE.start);
    fdt.property_string("stdout-path", &format!("/{console}"))?;
    fdt.end_node(chosen)?;

    let node = fdt.begin_node(&format!("memory@{MEMORY:x}"))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[MEMORY, memory])?;
    fdt.end_node(node)?;

    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 0)?;
    for affinity in affinities {
        let cpu = fdt.begin_node(&format!("cpu@{affinity:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_string("enable-method", "psci")?;
        fdt.property_u64("reg", *affinity)?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)?;

    let psci = fdt.begin_node("psci")?;
    fdt.property_string_list("compatible", list(&["arm,psci-1.0", "arm,psci-0.2"]))?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(psci)?;

    let gic = fdt.begin_node(&format!("intc@{DISTRIBUTOR:x}"))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    let redistributors = REDISTRIBUTOR_BYTES * affinities.len() as u64;
    fdt.property_array_u64(
        "reg",
        &[
            DISTRIBUTOR,
            DISTRIBUTOR_BYTES,
            REDISTRIBUTORS,
            redistributors,
        ],
    )?;
    fdt.property_phandle(GIC)?;
    fdt.end_node(gic)?;

    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_null("always-on")?;
    fdt.property_array_u32("interrupts", &TIMERS.map(|n| [PPI, n, LEVEL_HIGH]).concat())?;
    fdt.end_node(timer)?;

    let clock = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", 24_000_000)?;
    fdt.property_phandle(CLOCK)?;
    fdt.end_node(clock)?;

    // Without `interrupts`: nothing drives its line.
    let node = fdt.begin_node(&console)?;
    fdt.property_string_list("compatible", list(&["arm,pl011", "arm,primecell"]))?;
    fdt.property_array_u64("reg", &[CONSOLE.start, CONSOLE.end - CONSOLE.start])?;
    fdt.property_array_u32("clocks", &[CLOCK, CLOCK])?;
    fdt.property_string_list("clock-names", list(&["uartclk", "apb_pclk"]))?;
    fdt.end_node(node)?;

    fdt.end_node(root)?;
    fdt.finish()
}

#[cfg(test)]
mod tests {
    use super::super::dtb;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_tree_says_what_a_payload_asks_of_it() {
        let affinities: Vec<u64> = (0..17).map(|n| (n % 16) | ((n / 16) << 8)).collect();
        let bytes = tree("unit=u cases=0-3", 256 * MIB, &affinities).unwrap();
        let tree = dtb::Tree::new(&bytes).unwrap();
        let (mut cpus, mut seen) = (Vec::new(), Vec::new());
        tree.walk(|node| {
            let is = |what| node.is_compatible(what);
            if node.name == "chosen" {
                assert_eq!(node.text("bootargs"), Some("unit=u cases=0-3"));
                assert_eq!(node.text("stdout-path"), Some("/pl011@9000000"));
            } else if node.text("device_type") == Some("memory") {
                assert_eq!(node.reg(0), Some((MEMORY, 256 * MIB)));
            } else if node.text("device_type") == Some("cpu") {
                assert_eq!(node.text("enable-method"), Some("psci"));
                cpus.push(dtb::cells(node.property("reg").unwrap(), 0, 2).unwrap());
            } else if is("arm,psci-1.0") && is("arm,psci-0.2") {
                assert_eq!(node.text("method"), Some("hvc"));
            } else if is("arm,gic-v3") {
                assert_eq!(node.reg(0), Some((DISTRIBUTOR, 0x1_0000)));
                assert_eq!(node.reg(1), Some((REDISTRIBUTORS, 17 * 0x2_0000)));
                assert_eq!(node.number("phandle"), Some(GIC.into()));
            } else if is("arm,armv8-timer") {
                let value = node.property("interrupts").unwrap();
                let cells: Vec<_> = (0..12).map(|i| dtb::cells(value, i, 1).unwrap()).collect();
                assert_eq!(cells, [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
            } else if is("arm,pl011") {
                assert_eq!(node.name, "pl011@9000000");
                assert_eq!(node.reg(0), Some((0x0900_0000, 0x1000)));
                assert!(!node.has("interrupts"));
            } else {
                return;
            }
            seen.push(node.name);
        })
        .unwrap();
        assert_eq!(cpus, affinities);
        assert_eq!(seen.len(), 6 + affinities.len(), "{seen:?}");
    }

    fn image(offset: u64, size: u64) -> Vec<u8> {
        let mut image = vec![0; HEADER];
        image[8..16].copy_from_slice(&offset.to_le_bytes());
        image[16..24].copy_from_slice(&size.to_le_bytes());
        image[56..60].copy_from_slice(MAGIC);
        image
    }

    #[test]
    fn an_image_lies_above_the_tree_at_its_offset_and_whole() {
        let image_of = |offset, size| place(&image(offset, size), 64, 8 * MIB);
        assert_eq!(image_of(0, 0), Ok(0x4020_0000));
        assert_eq!(image_of(0x8_0000, MIB), Ok(0x4028_0000));
        // The header counts memory that the file does not hold, and old headers count nothing.
        assert_eq!(image_of(0, 6 * MIB), Ok(0x4020_0000));
        assert!(image_of(0, 6 * MIB + 1).is_err());
        assert!(image_of(u64::MAX, 1).is_err());
        assert!(place(&image(0, 0), 6 * MIB + 1, 8 * MIB).is_err());
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let mut wrong = image(0, 0);
        wrong[56] = b'a';
        assert!(place(&wrong, 64, 8 * MIB).is_err());
        assert!(place(&[], 0, 8 * MIB).is_err());
    }
}
