//! Rules on how a guest is kept from others, and its memory from the host.

use super::one::Report;
use crate::domain::Domain;
use crate::domain::security::{LaunchSecurityType, SecLabel, SecLabelType};
use crate::rule::Rule;
use crate::scalar::YesNo;
use std::collections::HashSet;
use std::fmt::Arguments;

/// Every rule on labels, keys, and memory that the host cannot read.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    let mut models = HashSet::new();
    let several = domain.seclabels.len() > 1;
    for (i, label) in domain.seclabels.iter().enumerate() {
        let path = format_args!("seclabel[{}]", i + 1);
        self::label(label, path, r);
        match label.model.as_deref() {
            None if several => r.report(
                Rule::SeclabelModel,
                path,
                "of several labels, each needs its `model`: selinux, apparmor or dac",
            ),
            Some(model) if !models.insert(model) => r.report(
                Rule::DuplicateSeclabel,
                path,
                format!("two labels are of model {model}"),
            ),
            _ => {}
        }
    }
    let mut ciphers = HashSet::new();
    let stated = domain.keywrap.iter().flat_map(|keywrap| &keywrap.ciphers);
    for (i, cipher) in stated.enumerate() {
        if cipher
            .name
            .as_deref()
            .is_some_and(|name| !ciphers.insert(name))
        {
            r.report(
                Rule::DuplicateCipher,
                format_args!("keywrap/cipher[{}]", i + 1),
                "the cipher is stated twice",
            );
        }
    }
    if let Some(launch) = &domain.launch_security {
        let sev = matches!(
            launch.kind,
            Some(LaunchSecurityType::Sev | LaunchSecurityType::SevSnp)
        );
        if sev && launch.policy.is_none() {
            r.report(
                Rule::LaunchSecurity,
                "launchSecurity",
                "what the chip's firmware allows is not stated: <policy>",
            );
        }
    }
}

fn label(label: &SecLabel, path: Arguments<'_>, r: &mut Report<'_>) {
    let complaint = match label.kind.unwrap_or(SecLabelType::Dynamic) {
        SecLabelType::Dynamic if label.relabel == Some(YesNo::No) => (
            "/@relabel",
            "a label that is made at the start is put on the guest's files too",
        ),
        SecLabelType::None if label.relabel == Some(YesNo::Yes) => (
            "/@relabel",
            "without a label there is none for the guest's files",
        ),
        SecLabelType::Static if label.label.is_none() => ("", "the label is not stated: <label>"),
        _ => return,
    };
    r.report(
        Rule::Seclabel,
        format_args!("{path}{}", complaint.0),
        complaint.1,
    );
}
