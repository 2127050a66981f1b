//! One seed per run and one child seed per drill, so that adding a drill does not disturb the others.

use sha2::{Digest, Sha256};

/// The child seed of `seed` for whatever is called `name`.
pub fn child(seed: u64, name: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(name.as_bytes());
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::child;

    #[test]
    fn children_differ_by_name_and_by_seed_and_never_change() {
        assert_eq!(child(7, "a"), child(7, "a"));
        assert_ne!(child(7, "a"), child(7, "b"));
        assert_ne!(child(7, "a"), child(8, "a"));
    }
}
