//! Boot messages: what a replica takes from its control socket, and what the node could be made to read there.

use baton_abi::boot::{MESSAGE_BYTES, Message};

#[test]
fn boot() {
    baton_fuzz::fuzz(2 * MESSAGE_BYTES, |input| {
        // Most inputs should get past the first word.
        let mut bytes = input.to_vec();
        if let [first, second, third, fourth, kind, ..] = bytes.as_mut_slice() {
            (*first, *second, *third, *fourth) = (1 + *kind % 2, 0x4e, 0x54, 0x42);
        }
        for bytes in [input, &bytes] {
            let Some(message) = Message::decode(bytes) else { continue };
            let wire = message.encode();
            let again = Message::decode(&wire).expect("what is encoded is a message");
            assert_eq!(again.encode(), wire);
            if let Message::Edge(edge) = message {
                assert!(edge.name.as_str().len() <= baton_abi::limits::NAME_MAX_BYTES);
            }
        }
    });
}
