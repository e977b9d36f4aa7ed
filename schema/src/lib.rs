//! What a libvirt definition means: types, XML and YAML codecs, diagnostics.
