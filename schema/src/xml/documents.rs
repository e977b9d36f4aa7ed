//! A stream of documents, such as several `virsh dumpxml` one after another.

use quick_xml::Reader;
use quick_xml::events::Event;

/// The documents of a text that holds several one after another, each with its offset. A text that is broken ends with the piece that is, for its reading to tell.
pub fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut reader = Reader::from_str(text);
    let mut pieces = Vec::new();
    let (mut depth, mut begin) = (0_usize, 0_usize);
    // Whether there is more in the piece than comments and white space.
    let mut something = false;
    loop {
        let event = reader.read_event();
        let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let closed = match event {
            Ok(Event::Start(_)) => {
                depth += 1;
                something = true;
                false
            }
            Ok(Event::End(_)) => {
                depth = depth.saturating_sub(1);
                depth == 0
            }
            Ok(Event::Empty(_)) => depth == 0,
            Ok(Event::Text(text)) => {
                something |= !text.trim().is_empty();
                false
            }
            Ok(Event::Eof) => break,
            Ok(_) => false,
            Err(_) => {
                something = true;
                break;
            }
        };
        if closed {
            pieces.extend(text.get(begin..end).map(|piece| (begin, piece)));
            (begin, something) = (end, false);
        }
    }
    if something || pieces.is_empty() {
        pieces.push((begin, text.get(begin..).unwrap_or("")));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_one_after_another_are_told_apart() {
        let text = "<?xml version='1.0'?>\n<a><a/></a>\n\n<b/>\n<!-- the end -->\n";
        let pieces: Vec<&str> = documents(text)
            .iter()
            .map(|(_, piece)| piece.trim())
            .collect();
        assert_eq!(pieces, ["<?xml version='1.0'?>\n<a><a/></a>", "<b/>"]);
    }

    #[test]
    fn a_broken_document_is_a_piece_of_its_own() {
        let pieces = documents("<a/><b></c>");
        assert_eq!(pieces, [(0, "<a/>"), (4, "<b></c>")]);
        assert_eq!(documents("").len(), 1);
    }
}
