//! Identities.

use super::{Form, Scalar, ScalarInfo};
use std::borrow::Cow;
use uuid::Uuid;

/// 16 bytes of two hexadecimal digits each, with any dashes and white space between them, as libvirt takes them.
impl Scalar for Uuid {
    const INFO: ScalarInfo = ScalarInfo::new(
        "a uuid such as 0f0806ab-531d-6134-5def-c5b4955292aa",
        Form::Text,
    )
    .matching("^[ -]*([0-9a-fA-F]{2}[ -]*){16}$");

    fn parse(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 16];
        let mut rest = text.trim().bytes();
        for byte in &mut bytes {
            let between = |c: &u8| *c == b'-' || c.is_ascii_whitespace();
            let high = rest.find(|c| !between(c));
            let digits = [high, rest.next()].map(|c| char::from(c?).to_digit(16));
            let [Some(high), Some(low)] = digits else {
                return Err(String::new());
            };
            *byte = u8::try_from(high << 4 | low).unwrap_or_default();
        }
        match rest.next() {
            None => Ok(Self::from_bytes(bytes)),
            Some(_) => Err(String::new()),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}
