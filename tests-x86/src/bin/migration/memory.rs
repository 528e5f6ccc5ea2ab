//! Memory, written and unwritten. Spec: SDM 3A 8.1, 8.2.

guest_lib::migrated_memory_cases!("SDM 3A 8.2");
