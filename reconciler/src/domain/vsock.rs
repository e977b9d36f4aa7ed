//! A guest's address for sockets (`<vsock>`).

use uuid::Uuid;

use super::DriverError;
use super::fields::Fields;

/// The stated address, or one derived from the guest's UUID, so that it stays: 3 to 2147483649.
///
/// # Errors
/// An address that cannot be, or none where none is to be chosen.
pub fn cid(fields: &Fields<'_>, uuid: Uuid) -> Result<u32, DriverError> {
    fields.word("model", "", &[("virtio", "")])?;
    let auto = fields.get("cid.auto");
    let stated = fields.get("cid.address");
    let derived = || {
        let folded = uuid.as_bytes().chunks_exact(4).fold(0, |sum, word| {
            sum ^ u32::from_be_bytes([word[0], word[1], word[2], word[3]])
        });
        folded % (u32::MAX / 2) + 3
    };
    match (auto, stated) {
        (Some("yes"), _) | (None, None) => Ok(derived()),
        (_, Some(text)) => {
            let parsed = text.parse().ok();
            let possible = parsed.filter(|cid| (3..u32::MAX).contains(cid));
            possible.ok_or_else(|| fields.refuse("cid.address", text))
        }
        (Some(auto), None) => Err(fields.refuse("cid.auto", auto)),
    }
}
