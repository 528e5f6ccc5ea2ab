//! General registers, clocks, stopped processors. Spec: DDI0487 B1.2, D12.1, DEN0022 5.6.

guest_lib::migrated_processor_cases!("DDI0487 B1.2", "DDI0487 D12.1", "DEN0022 5.6 CPU_ON");
