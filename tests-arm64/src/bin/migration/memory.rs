//! Memory, written and unwritten. Spec: DDI0487 B2.

guest_lib::migrated_memory_cases!("DDI0487 B2.3");
