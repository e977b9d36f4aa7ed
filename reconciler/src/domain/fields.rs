//! The fields of a device that a driver gets as a plain record, taken one by one, so that what nobody took is known.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::DriverError;
use crate::resolve::Driver;
use crate::resolve::domain::{Address, Extra};

/// One device's fields.
pub struct Fields<'a> {
    driver: Driver,
    extra: &'a Extra,
    taken: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Fields<'a> {
    /// The fields of a device, for a driver.
    pub fn of(driver: Driver, extra: &'a Extra) -> Self {
        Self {
            driver,
            extra,
            taken: RefCell::default(),
        }
    }

    /// A field, by its dotted path.
    pub fn get(&self, path: &str) -> Option<&'a str> {
        let (key, value) = self.extra.fields.get_key_value(path)?;
        self.taken.borrow_mut().insert(key);
        Some(value)
    }

    /// Where the device sits, if that is stated.
    pub fn address(&self) -> Option<&'a Address> {
        self.extra.address.as_ref()
    }

    /// A field whose values the driver maps to words of its monitor's; what it does not know is an error that names it.
    pub fn word(
        &self,
        path: &str,
        default: &'static str,
        words: &[(&str, &'static str)],
    ) -> Result<&'static str, DriverError> {
        let Some(value) = self.get(path) else {
            return Ok(default);
        };
        let known = words.iter().find(|(ours, _)| *ours == value);
        known
            .map(|(_, monitors)| *monitors)
            .ok_or_else(|| self.refuse(path, value))
    }

    /// The error for a value that the driver does not do.
    pub fn refuse(&self, path: &str, value: &str) -> DriverError {
        DriverError::Unsupported {
            driver: self.driver,
            what: format!("<{}> with {path}='{value}'", self.extra.class),
        }
    }

    /// Says that everything has been taken.
    pub fn done(&self) -> Result<(), DriverError> {
        let taken = self.taken.borrow();
        let left = self
            .extra
            .fields
            .iter()
            .find(|(key, _)| !taken.contains(key.as_str()));
        match left {
            Some((key, value)) => Err(self.refuse(key, value)),
            None => Ok(()),
        }
    }
}
