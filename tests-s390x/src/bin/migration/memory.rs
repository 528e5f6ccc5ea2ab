//! Storage, written and unwritten. Spec: SA22-7832 5.

guest_lib::migrated_memory_cases!("SA22-7832 5");
