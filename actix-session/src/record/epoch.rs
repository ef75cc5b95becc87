//! The epoch of the last `clear`, which comes with the text or lies beside the record.

use super::Record;

impl Record {
    /// The epoch of the last `clear`; 0 before the first, or if nothing keeps it.
    pub(crate) fn epoch(&self) -> u64 {
        self.written.facts().epoch
    }

    /// The epoch that lies beside the record, for a text that does not keep it.
    pub(crate) fn with_epoch_beside(self, epoch: Option<u64>) -> Self {
        match epoch {
            Some(epoch) if self.epoch() == 0 => {
                self.changed(|written| written.facts_mut().epoch = epoch)
            }
            _ => self,
        }
    }

    /// The epoch that this record has, if the one that it was made from has another, or was the
    /// last to keep it in its text.
    pub(crate) fn epoch_since(&self, before: &Self) -> Option<u64> {
        let leaves_text = before.keeps_epoch() && !self.keeps_epoch();
        let epoch = Some(self.epoch()).filter(|epoch| *epoch != 0);
        epoch.filter(|epoch| leaves_text || *epoch != before.epoch())
    }

    /// Whether a `clear` has come since this base was loaded. If nothing keeps its epoch any more,
    /// it came too long ago to matter.
    pub(crate) fn is_from_before_clear(&self, stored: &Self) -> bool {
        stored.epoch() != 0 && stored.epoch() != self.epoch()
    }

    /// Whether the text itself keeps the epoch.
    fn keeps_epoch(&self) -> bool {
        self.metadata().is_some_and(|metadata| metadata.epoch != 0)
    }
}
