//! The library's features, from cargo, so that nobody has to maintain a list.

use serde_json::Value;

use crate::Result;
use crate::step::cargo;

/// A package of the workspace.
#[derive(Debug, PartialEq)]
pub(crate) struct Library {
    /// Identifies it even if published versions with the same name are dependencies, too.
    pub(crate) id: String,
    /// The features that applications choose from, in alphabetical order: not `default`, and no name
    /// that begins with `_`, which other features turn on.
    pub(crate) features: Vec<String>,
}

impl Library {
    /// Asks cargo.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let metadata = serde_json::from_slice(&output.stdout)?;
        Self::read(&metadata, name).ok_or_else(|| {
            format!("cargo metadata lists no package {name} in this workspace").into()
        })
    }

    fn read(metadata: &Value, name: &str) -> Option<Self> {
        let package = metadata["packages"]
            .as_array()?
            .iter()
            .find(|package| package["name"] == name)?;
        let features = package["features"].as_object()?;
        Some(Self {
            id: package["id"].as_str()?.to_owned(),
            features: features
                .keys()
                .filter(|name| *name != "default" && !name.starts_with('_'))
                .cloned()
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_feature_that_applications_choose() {
        let metadata = serde_json::json!({"packages": [
            {"name": "other", "id": "o", "features": {"x": []}},
            {"name": "lib", "id": "path+file:///l#lib@1.0.0", "features": {"b": ["_c"], "default": ["a"], "_c": [], "a": []}},
        ]});
        let library = Library::read(&metadata, "lib").unwrap();
        assert_eq!(library.features, ["a", "b"]);
        assert_eq!(library.id, "path+file:///l#lib@1.0.0");
        assert_eq!(Library::read(&metadata, "absent"), None);
    }
}
