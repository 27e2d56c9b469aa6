//! The search for single bytes, sixteen at a time: [`find`]. Texts of the browser are some twenty bytes long, so what
//! counts is how soon a search begins.

use wide::u8x16;

const BLOCK: usize = 16;

/// The position of the first byte, at `from` or after it, that is one of these.
#[inline]
pub(crate) fn find<const N: usize>(text: &[u8], from: usize, wanted: [u8; N]) -> Option<usize> {
    let mut rest = text.get(from..)?;
    let mut at = from;
    while let Some((block, others)) = rest.split_first_chunk() {
        let found = found_in(*block, wanted);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize);
        }
        at += BLOCK;
        rest = others;
    }
    Some(at + find_in_rest(rest, wanted)?)
}

/// The same for less than a block.
#[inline(never)]
fn find_in_rest<const N: usize>(rest: &[u8], wanted: [u8; N]) -> Option<usize> {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    let found = found_in(block, wanted) & ((1 << rest.len()) - 1);
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// A bit for each byte, set where it is one of those that are wanted.
#[inline]
fn found_in<const N: usize>(block: [u8; BLOCK], wanted: [u8; N]) -> u32 {
    let block = u8x16::new(block);
    let is_it = |any, byte| any | block.simd_eq(u8x16::splat(byte));
    wanted.into_iter().fold(u8x16::ZERO, is_it).to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_at_each_position_of_texts_of_each_length() {
        for length in 0..50 {
            let mut text = vec![b'a'; length];
            assert_eq!(find(&text, 0, [b'"', 0]), None, "{length}");
            for at in (0..length).rev() {
                text[at] = if at % 2 == 0 { b'"' } else { b'\\' };
                for from in 0..=at {
                    assert_eq!(find(&text, from, *b"\"\\"), Some(at), "{at} of {length}");
                }
            }
        }
    }
}
