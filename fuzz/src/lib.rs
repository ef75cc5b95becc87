//! What the fuzz targets share: the library is judged by these models, which share no code with it.

pub mod cursor;
pub mod model;
pub mod records;

/// The error of stores.
pub type StoreError = anyhow::Error;
