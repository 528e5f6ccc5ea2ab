//! General registers, clocks, stopped processors. Spec: SDM 1 3.4, SDM 3B 18.17, SDM 3A 9.4.

guest_lib::migrated_processor_cases!("SDM 1 3.4", "SDM 3B 18.17 RDTSC", "SDM 3A 9.4.3");
