//! What sizes, times and shares of cores read and print.

use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_read_in_every_unit() {
    let cases = [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("64KiB", 64 << 10),
        ("256MiB", 256 << 20),
        ("1GiB", 1 << 30),
        ("2 TiB", 2 << 40),
        ("18446744073709551615", u64::MAX),
    ];
    for (text, bytes) in cases {
        assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
    }
}

#[test]
fn a_bad_size_says_what_is_wrong() {
    let cases = [
        ("", "a size starts with a whole number"),
        ("MiB", "a size starts with a whole number"),
        ("-1", "a size starts with a whole number"),
        ("1.5GiB", "a size is a whole number of its unit"),
        ("1MB", "\"MB\" is no unit of size"),
        ("1mib", "\"mib\" is no unit of size"),
        ("18446744073709551616", "the size does not fit into 64 bits"),
        ("16777216TiB", "the size does not fit into 64 bits"),
    ];
    for (text, expect) in cases {
        assert_eq!(text.parse::<ByteSize>().unwrap_err().to_string(), expect, "{text}");
    }
}

#[test]
fn times_are_read_in_every_unit() {
    for (text, millis) in [("0ms", 0), ("500ms", 500), ("2s", 2_000), ("1m", 60_000), ("1h", 3_600_000)] {
        assert_eq!(text.parse(), Ok(TimeSpan { millis }), "{text}");
    }
}

#[test]
fn a_bad_time_says_what_is_wrong() {
    let cases = [
        ("", "a time starts with a whole number"),
        ("s", "a time starts with a whole number"),
        ("2", "the time has no unit"),
        ("1.5s", "a time is a whole number of its unit"),
        ("2 days", "\"days\" is no unit of time"),
        ("99999999999999999999s", "the time does not fit into 64 bits of milliseconds"),
        ("9999999999999999999h", "the time does not fit into 64 bits of milliseconds"),
    ];
    for (text, expect) in cases {
        assert_eq!(text.parse::<TimeSpan>().unwrap_err().to_string(), expect, "{text}");
    }
}

#[test]
fn values_print_in_the_largest_whole_unit() {
    for (bytes, expect) in [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (3 << 29, "1536MiB")] {
        assert_eq!(ByteSize(bytes).to_string(), expect);
    }
    for (millis, expect) in [(0, "0ms"), (1500, "1500ms"), (90_000, "90s"), (7_200_000, "2h")] {
        assert_eq!(TimeSpan { millis }.to_string(), expect);
    }
    assert_eq!(Cores::from_milli(1500).to_string(), "1.5");
}

#[test]
fn shares_of_cores_refuse_what_is_no_share() {
    for bad in [-1.0, f64::NAN, f64::INFINITY, 1e12] {
        assert_eq!(Cores::try_from(bad), Err(CoresFault), "{bad}");
    }
    assert_eq!(Cores::try_from(0.25), Ok(Cores::from_milli(250)));
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(n in any::<u64>(), milli in any::<u32>()) {
        prop_assert_eq!(ByteSize(n).to_string().parse(), Ok(ByteSize(n)));
        prop_assert_eq!(TimeSpan { millis: n }.to_string().parse(), Ok(TimeSpan { millis: n }));
        let cores = Cores::from_milli(milli);
        prop_assert_eq!(Cores::try_from(f64::from(cores)), Ok(cores));
    }
}
