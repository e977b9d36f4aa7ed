//! GRUB's environment block: the few variables that outlive a boot, such as `saved_entry`.
//!
//! In come the block's bytes; out go names and values. It is only read: `next_entry`, which GRUB would take back, stays until the guest does so.

/// Where the block is, beside the configurations that use it.
pub(in super::super) const PLACES: [&str; 4] = [
    "/boot/grub/grubenv",
    "/grub/grubenv",
    "/boot/grub2/grubenv",
    "/grub2/grubenv",
];
/// Bytes that are read of it; it has 1024.
pub(in super::super) const MOST_BYTES: u64 = 64 << 10;

/// The variables in a block; none in what is no such block.
pub(in super::super) fn parse(bytes: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    if !text.starts_with("# GRUB Environment Block") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut rest = text.chars();
    while let Some(line) = line(&mut rest) {
        if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}

/// The next line, in which a backslash makes the character after it a part of the line.
fn line(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut line = String::new();
    let mut any = false;
    while let Some(c) = rest.next() {
        any = true;
        match c {
            '\n' => break,
            '\\' => line.extend(rest.next()),
            c => line.push(c),
        }
    }
    any.then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_names_and_values_up_to_its_padding() {
        let block = b"# GRUB Environment Block\nsaved_entry=a=b\\\\c\n# no\nnext_entry=\n######";
        let found = parse(block);
        let wanted = [("saved_entry", "a=b\\c"), ("next_entry", "")];
        assert_eq!(found, wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(parse(b"saved_entry=x"), []);
    }
}
