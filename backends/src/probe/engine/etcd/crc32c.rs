//! CRC-32C, the checksum of etcd's HashKV.

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

/// A sum that bytes are added to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum(u32);

impl Default for Sum {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Sum {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let index = usize::from((self.0 as u8) ^ byte);
            self.0 = TABLE.get(index).copied().unwrap_or(0) ^ (self.0 >> 8);
        }
    }

    pub(super) fn value(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        let mut sum = super::Sum::default();
        sum.add(b"12345");
        sum.add(b"6789");
        assert_eq!(sum.value(), 0xe306_9283);
    }
}
