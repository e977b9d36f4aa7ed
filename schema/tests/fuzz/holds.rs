//! What holds whatever a file says.
//!
//! No panic; no more time or memory than the file's size allows (who calls these measures both); and what was accepted comes back the same through XML and through YAML.

use std::sync::Arc;

use vireo_schema::tidy::{Keep, tidy};
use vireo_schema::{Document, Source, check, read, references, to_xml, to_yaml, xml as codec};

/// Separates the files of one input of [`files`]: ASCII's record separator, which neither XML nor YAML allows in a text.
pub const BETWEEN_FILES: char = '\u{1e}';

/// A file of XML: read, written, tidied.
pub fn xml(text: &str) {
    let document = reads("a.xml", text);
    comes_back(&document);
    let _ = codec::documents(text);
    if let Ok(mut tree) = codec::read(text, 0) {
        tidy(&mut tree, Keep::default());
        let tidied = codec::write(&tree);
        let again = reads("a.xml", &tidied);
        let (before, after) = (document.definitions.len(), again.definitions.len());
        assert!(after >= before, "no longer accepted when tidied:\n{tidied}");
    }
}

/// A file of YAML: read and written.
pub fn yaml(text: &str) {
    comes_back(&reads("a.yaml", text));
}

/// Several files, of XML where the first sign is `<`, and what is wrong between them.
pub fn files(text: &str) {
    let mut documents = Vec::new();
    for (number, text) in text.split(BETWEEN_FILES).enumerate() {
        let ending = if text.trim_start().starts_with('<') {
            "xml"
        } else {
            "yaml"
        };
        documents.push(reads(&format!("{number}.{ending}"), text));
    }
    for (source, problem) in check(&documents) {
        let _ = problem.render(&source);
    }
    for located in documents.iter().flat_map(|document| &document.definitions) {
        let _ = references(&located.definition, &located.policy);
    }
}

fn reads(name: &str, text: &str) -> Document {
    let source = Arc::new(Source::new(name, text));
    let document = read(&source);
    for problem in &document.problems {
        let _ = problem.render(&source);
    }
    for located in &document.definitions {
        // Each look reads the text anew: a few places tell as much as all.
        for stated in located.spans.all().iter().take(16) {
            assert!(
                located.spans.get(&stated.path).is_some(),
                "{} is nowhere in {text:?}",
                stated.path
            );
        }
    }
    document
}

fn comes_back(document: &Document) {
    for located in &document.definitions {
        let stated = &located.definition;
        for (name, text) in [
            ("b.xml", to_xml(stated, &located.policy)),
            ("b.yaml", to_yaml(stated, &located.policy)),
        ] {
            let again = reads(name, &text);
            let back = again
                .definitions
                .first()
                .map(|back| (&back.definition, &back.policy));
            let wanted = match name {
                "b.xml" => stated.in_xml(),
                _ => std::borrow::Cow::Borrowed(stated),
            };
            assert_eq!(
                back,
                Some((wanted.as_ref(), &located.policy)),
                "{text}\n{:?}",
                again.problems
            );
        }
    }
}
