//! The values that clients write: each says which write it is, and every byte of it follows from that.

use super::history::ValueId;

/// One value in so many is long, and gets pages of its own in the tree.
const LONG_ONE_IN: u64 = 16;

/// The bytes of a value.
pub fn body(value: ValueId) -> Vec<u8> {
    // Spread over all bits (the multiplier of Knuth's linear congruence).
    let mixed = (value + 1).wrapping_mul(6_364_136_223_846_793_005);
    let len = match mixed >> 40 & (LONG_ONE_IN - 1) {
        0 => 4_000 + (mixed >> 48) % 8_000,
        _ => (mixed >> 48) % 900,
    };
    let mut bytes = format!("{value}:").into_bytes();
    let head = bytes.len();
    bytes.extend_from_slice(&mixed.to_le_bytes());
    // Twice as long each time, since every byte that anybody sees is compared with this.
    while bytes.len() < head + len as usize {
        bytes.extend_from_within(head..);
    }
    bytes.truncate(head + len as usize);
    bytes
}

/// Which value these bytes are, if they are one.
pub fn parse(bytes: &[u8]) -> Option<ValueId> {
    let end = bytes.iter().position(|byte| *byte == b':')?;
    let value = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    (body(value) == bytes).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_by_all_of_its_bytes() {
        let bodies: Vec<Vec<u8>> = (0..200).map(body).collect();
        assert!(bodies.iter().any(|body| body.len() > 4_000), "none is long");
        for (value, body) in bodies.into_iter().enumerate() {
            assert_eq!(parse(&body), Some(value as u64));
            for at in [0, body.len() / 2, body.len() - 1] {
                let mut damaged = body.clone();
                damaged[at] ^= 4;
                assert_eq!(parse(&damaged), None, "byte {at} of value {value}");
            }
            assert_eq!(parse(&body[..body.len() - 1]), None);
        }
    }
}
