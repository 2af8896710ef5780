//! Changes to records that are there: rights, names.

use std::sync::Arc;

use super::Store;
use crate::error::StoreError;
use crate::files;
use crate::policy::Person;
use crate::record::{ClientName, ClientRecord};

impl Store {
    /// Changes what is said of a client; its keys and its name stay.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::Revoked`], [`StoreError::Policy`], or
    /// what is wrong with the record; then it stays as it was.
    pub fn change(
        &self,
        name: &ClientName,
        edit: impl FnOnce(&mut ClientRecord),
    ) -> Result<ClientRecord, StoreError> {
        let _lock = self.begin_writing()?;
        let mut record = self.client(name)?;
        let before = Arc::clone(&record.policy);
        edit(&mut record);
        record.policy.check_for(name).map_err(StoreError::Policy)?;
        let text = record.to_text();
        // Who is to be shut out is so however long the record has become.
        if record.policy != before {
            super::fits(&text)?;
        }
        files::write_atomic(&self.client_path(name), &text)?;
        Ok(record)
    }

    /// Gives a client, or a person with all devices, another name: the same keys
    /// and rights. Which names there are then. What was cut off in the middle is
    /// brought to its end by doing it again.
    ///
    /// # Errors
    /// [`StoreError::Taken`] where somebody else has one of the new names,
    /// [`StoreError::Person`], or that there is nobody to rename; then nothing has changed.
    pub fn rename(
        &self,
        from: &ClientName,
        to: &ClientName,
    ) -> Result<Vec<ClientName>, StoreError> {
        let _lock = self.begin_writing()?;
        let whole = self.person(from)?;
        // Beside a client, what has its name is what was cut off on the way to be its device.
        if whole.is_some() || !self.clients_of(from)?.contains(from) {
            return self.rename_person(from, to, whole);
        }
        self.check_kind_after(from, to)?;
        self.rename_one(from, to)?;
        Ok(vec![to.clone()])
    }

    /// A client that becomes the first device of a person of its own name is none
    /// in the way of it.
    fn check_kind_after(&self, from: &ClientName, to: &ClientName) -> Result<(), StoreError> {
        if to.device().is_some() && to.person() == *from { Ok(()) } else { self.check_kind(to) }
    }

    fn rename_person(
        &self,
        from: &ClientName,
        to: &ClientName,
        said: Option<Person>,
    ) -> Result<Vec<ClientName>, StoreError> {
        if to.device().is_some() || from == to || self.client_path(to).exists() {
            return Err(StoreError::Person(to.person()));
        }
        let devices = self.found_of(from)?;
        let renamed = devices.iter().filter_map(|name| Some((name, name.with_person(to)?)));
        let renamed: Vec<_> = renamed.collect();
        if renamed.len() != devices.len() {
            return Err(StoreError::Policy("a name would be longer than 64 characters"));
        }
        renamed.iter().try_for_each(|(from, to)| self.check_free(from, to))?;
        let new = said.map(|said| Person { name: to.clone(), ..said });
        let there = self.check_nobody(&renamed, to, new.as_ref())?;
        // What limits the devices is there before them, and goes after them; all have the
        // new name before the first loses the old one: see `check_nobody`.
        if let Some(new) = new.as_ref().filter(|_| !there) {
            files::create_new(&self.person_path(to), &new.to_text())?;
        }
        renamed.iter().try_for_each(|(from, to)| self.write_as(from, to))?;
        for (from, _) in &renamed {
            files::remove(&self.client_path(from))?;
        }
        if new.is_some() {
            files::remove(&self.person_path(from))?;
        }
        Ok(renamed.into_iter().map(|(_, to)| to).collect())
    }

    /// Refuses a new name that is another person's: two would be one from then on. What a
    /// rename that was cut off has left there is not another's: until all devices have
    /// the new name, none has lost the old one. Whether the person's file is there.
    fn check_nobody(
        &self,
        renamed: &[(&ClientName, ClientName)],
        to: &ClientName,
        new: Option<&Person>,
    ) -> Result<bool, StoreError> {
        let said = self.person(to)?;
        let there = self.found_of(to)?;
        let moved = |name: &ClientName| renamed.iter().any(|(_, to)| to == name);
        let all_there = renamed.iter().all(|(_, to)| there.contains(to));
        let ours = there.iter().all(moved) || all_there;
        let same = said.as_ref() == new || (said.is_none() && there.is_empty());
        if ours && same { Ok(said.is_some()) } else { Err(StoreError::Taken(to.clone())) }
    }

    /// Refuses a new name that another client has; one that was cut off while it
    /// was renamed has it already.
    fn check_free(&self, from: &ClientName, to: &ClientName) -> Result<(), StoreError> {
        let record = self.client(from)?;
        match self.client_in(&Self::file_of(to)) {
            None => Ok(()),
            Some(Ok(there)) if there.kid == record.kid && from != to => Ok(()),
            Some(_) => Err(StoreError::Taken(to.clone())),
        }
    }

    /// In this order: a crash in between leaves both files, of which one is used.
    fn rename_one(&self, from: &ClientName, to: &ClientName) -> Result<(), StoreError> {
        self.check_free(from, to)?;
        self.write_as(from, to)?;
        Ok(files::remove(&self.client_path(from))?)
    }

    pub(super) fn write_as(&self, from: &ClientName, to: &ClientName) -> Result<(), StoreError> {
        let record = ClientRecord { name: to.clone(), ..self.client(from)? };
        Ok(files::write_atomic(&self.client_path(to), &record.to_text())?)
    }
}
