//! What the fuzz targets share: models that judge the library and share no code with it.

pub mod cursor;
pub mod model;
pub mod records;

/// The error of stores.
pub type StoreError = anyhow::Error;
