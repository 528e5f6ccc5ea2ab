//! Checks. Each is an expression of type [`crate::case::Verdict`], so `?` stops the case early.

/// Passes when `$got == $expected`. An optional format says what is checked; by default it is
/// the text of the first expression. Both sides are evaluated once.
#[macro_export]
macro_rules! expect_eq {
    ($got:expr, $expected:expr $(,)?) => {
        $crate::expect_eq!($got, $expected, "{}", stringify!($got))
    };
    ($got:expr, $expected:expr, $($what:tt)+) => {
        match (&$got, &$expected) {
            (got, expected) => {
                if *got == *expected {
                    $crate::case::Verdict::Ok(())
                } else {
                    let what = ::alloc::format!($($what)+);
                    $crate::case::Verdict::Err(
                        $crate::case::Failure::compared(what, got, expected).into(),
                    )
                }
            }
        }
    };
}

/// Passes when `$got != $unwanted`.
#[macro_export]
macro_rules! expect_ne {
    ($got:expr, $unwanted:expr $(,)?) => {
        $crate::expect_ne!($got, $unwanted, "{}", stringify!($got))
    };
    ($got:expr, $unwanted:expr, $($what:tt)+) => {
        match (&$got, &$unwanted) {
            (got, unwanted) => {
                if *got != *unwanted {
                    $crate::case::Verdict::Ok(())
                } else {
                    let what = ::alloc::format!($($what)+);
                    let unwanted = ::alloc::format!("not {}", $crate::case::show(unwanted));
                    let mut failure = $crate::case::Failure::compared(what, got, &());
                    failure.expected = unwanted;
                    $crate::case::Verdict::Err(failure.into())
                }
            }
        }
    };
}

/// Passes when the condition holds.
#[macro_export]
macro_rules! expect {
    ($condition:expr $(,)?) => {
        $crate::expect!($condition, "{}", stringify!($condition))
    };
    ($condition:expr, $($what:tt)+) => {
        if $condition {
            $crate::case::Verdict::Ok(())
        } else {
            $crate::case::Verdict::Err($crate::case::Failure::new(::alloc::format!($($what)+)).into())
        }
    };
}

/// Fails, with a message; an expression of type [`crate::case::Stop`] wrapped in `Err`.
#[macro_export]
macro_rules! fail {
    ($($what:tt)+) => {
        Err($crate::case::Stop::Fail($crate::case::Failure::new(::alloc::format!($($what)+))))
    };
}

/// Adds a line to the case's notes: a value worth keeping, whatever the outcome.
#[macro_export]
macro_rules! note {
    ($($what:tt)+) => {
        $crate::runner::note(::alloc::format!($($what)+))
    };
}
