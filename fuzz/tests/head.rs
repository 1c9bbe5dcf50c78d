//! Heads: records that a function or the node wrote, read by the other side.

use baton_abi::head::{records, write_record};
use baton_fuzz::INPUT_BYTES_MAX;

#[test]
fn head() {
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        let mut read = 0;
        let mut again = vec![0; input.len()];
        let mut at = 0;
        let mut broken = false;
        for record in records(input) {
            assert!(!broken, "it goes on after an error");
            match record {
                Ok(record) => {
                    read += 1;
                    assert!(read <= input.len() / 4, "more records than fit");
                    // What was read is what writing it again gives.
                    at = write_record(&mut again, at, record.field, record.name, record.value).unwrap();
                }
                Err(error) => {
                    assert_eq!(error.left, input.len() - at);
                    broken = true;
                }
            }
        }
        assert_eq!(again[..at], input[..at]);
        assert!(broken || at == input.len());
    });
}
