//! The ACPI tables a payload reads: root pointer, XSDT, MADT (processors), FADT (power-off).
//! Spec: ACPI 5.2.5 (RSDP), 5.2.8 (XSDT), 5.2.9 (FADT), 5.2.12 (MADT).

/// The PM1a control register's port.
pub const PM1A_CONTROL: u16 = 0x604;

const REVISION: u8 = 2;

/// The tables for `cpus` processors, to be placed at `base`; the root pointer comes first.
pub fn tables(base: u64, cpus: u32) -> Vec<u8> {
    let align = |n: usize| n.next_multiple_of(64);
    let dsdt_at = 64;
    let dsdt = table(b"DSDT", 2, &[]);
    let facp_at = align(dsdt_at + dsdt.len());
    let facp = table(b"FACP", 3, &fadt(base + dsdt_at as u64));
    let madt_at = align(facp_at + facp.len());
    let madt = table(b"APIC", 4, &madt(cpus));
    let xsdt_at = align(madt_at + madt.len());
    let mut pointers = Vec::new();
    for at in [facp_at, madt_at] {
        pointers.extend_from_slice(&(base + at as u64).to_le_bytes());
    }
    let xsdt = table(b"XSDT", 1, &pointers);

    let mut all = vec![0; xsdt_at + xsdt.len()];
    all[..36].copy_from_slice(&rsdp(base + xsdt_at as u64));
    for (at, table) in [
        (dsdt_at, dsdt),
        (facp_at, facp),
        (madt_at, madt),
        (xsdt_at, xsdt),
    ] {
        all[at..at + table.len()].copy_from_slice(&table);
    }
    all
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b))
}

fn rsdp(xsdt: u64) -> [u8; 36] {
    let mut rsdp = [0; 36];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[9..15].copy_from_slice(b"ASSAY ");
    rsdp[15] = REVISION;
    rsdp[20..24].copy_from_slice(&36u32.to_le_bytes());
    rsdp[24..32].copy_from_slice(&xsdt.to_le_bytes());
    rsdp[8] = checksum(&rsdp[..20]);
    rsdp[32] = checksum(&rsdp);
    rsdp
}

fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = Vec::with_capacity(36 + body.len());
    table.extend_from_slice(signature);
    table.extend_from_slice(&(36 + body.len() as u32).to_le_bytes());
    table.extend_from_slice(&[revision, 0]);
    table.extend_from_slice(b"ASSAY ASSAYVMM");
    table.extend_from_slice(&1u32.to_le_bytes());
    table.extend_from_slice(b"ASSY");
    table.extend_from_slice(&1u32.to_le_bytes());
    table.extend_from_slice(body);
    table[9] = checksum(&table);
    table
}

/// The body of a FADT of ACPI 2.0 (244 bytes with its header).
fn fadt(dsdt: u64) -> [u8; 208] {
    let mut body = [0; 208];
    let mut put =
        |at: usize, bytes: &[u8]| body[at - 36..at - 36 + bytes.len()].copy_from_slice(bytes);
    put(40, &(dsdt as u32).to_le_bytes());
    put(46, &9u16.to_le_bytes());
    put(56, &0x600u32.to_le_bytes());
    put(64, &u32::from(PM1A_CONTROL).to_le_bytes());
    put(88, &[4, 2]);
    put(140, &dsdt.to_le_bytes());
    body
}

fn madt(cpus: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&0xfee0_0000u32.to_le_bytes());
    // Flags: two 8259s as well.
    body.extend_from_slice(&1u32.to_le_bytes());
    for id in 0..cpus {
        if id < 255 {
            body.extend_from_slice(&[0, 8, id as u8, id as u8, 1, 0, 0, 0]);
        } else {
            body.extend_from_slice(&[9, 16, 0, 0]);
            for word in [id, 1, id] {
                body.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    body.extend_from_slice(&[1, 12, 0, 0]);
    body.extend_from_slice(&0xfec0_0000u32.to_le_bytes());
    body.extend_from_slice(&0u32.to_le_bytes());
    // The timer's interrupt 0 arrives at input 2, as on every PC.
    body.extend_from_slice(&[2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> usize {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
    }

    #[test]
    fn every_table_sums_to_zero_and_is_found_from_the_root() {
        let all = tables(0x1000, 300);
        assert_eq!(checksum(&all[..20]), 0);
        assert_eq!(checksum(&all[..36]), 0);
        let xsdt = &all[word(&all, 24) - 0x1000..];
        assert_eq!(&xsdt[..4], b"XSDT");
        for (i, signature) in [b"FACP", b"APIC"].into_iter().enumerate() {
            let at = word(xsdt, 36 + 8 * i) - 0x1000;
            let length = u32::from_le_bytes(all[at + 4..at + 8].try_into().unwrap()) as usize;
            assert_eq!(&all[at..at + 4], signature);
            assert_eq!(checksum(&all[at..at + length]), 0);
        }
    }

    #[test]
    fn processors_beyond_254_have_x2apic_entries() {
        let body = madt(257);
        let count = |kind: u8| {
            let (mut at, mut n) = (8, 0);
            while at < body.len() {
                n += usize::from(body[at] == kind);
                at += usize::from(body[at + 1]);
            }
            n
        };
        assert_eq!((count(0), count(9), count(1)), (255, 2, 1));
    }
}
