//! General registers, clocks, stopped processors. Spec: SA22-7832 4.

guest_lib::migrated_processor_cases!(
    "SA22-7832 4",
    "SA22-7832 4 STORE CLOCK",
    "SA22-7832 4 SIGNAL PROCESSOR"
);
