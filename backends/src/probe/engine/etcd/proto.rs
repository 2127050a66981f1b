//! Reading protobuf messages without their schema, as far as one looks into them.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// The fields of a message with their numbers. Ends at the first thing that is no field.
pub(super) struct Fields<'m>(pub(super) &'m [u8]);

impl<'m> Iterator for Fields<'m> {
    type Item = (u64, Field<'m>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some((tag >> 3, field))
    }
}

impl<'m> Fields<'m> {
    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// The bytes of the first field with this number.
pub(super) fn bytes(message: &[u8], number: u64) -> Option<&[u8]> {
    Fields(message).find_map(|(n, field)| match field {
        Field::Bytes(bytes) if n == number => Some(bytes),
        _ => None,
    })
}

/// The first field with this number, which is a number; 0 where it is left out.
pub(super) fn number(message: &[u8], number: u64) -> u64 {
    let field = Fields(message).find_map(|(n, field)| match field {
        Field::Number(value) if n == number => Some(value),
        _ => None,
    });
    field.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_hostile_lengths_end_the_message() {
        let message = [0x0a, 2, b'h', b'i', 0x10, 0x96, 0x01, 0x1d, 1, 0, 0, 0];
        assert_eq!(bytes(&message, 1), Some(&b"hi"[..]));
        assert_eq!(number(&message, 2), 150);
        assert_eq!(number(&message, 3), 1);
        assert_eq!(number(&message, 9), 0);
        assert_eq!(bytes(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 1), None);
        assert_eq!(Fields(&[0xff; 40]).count(), 0);
        assert_eq!(Fields(&[0x0a, 5, 1]).count(), 0);
    }
}
