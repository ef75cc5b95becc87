//! The library as cargo sees it: asked, so that nobody has to remember a list.

use serde_json::Value;

use crate::Result;
use crate::step::cargo;

/// A package of the workspace.
#[derive(Debug, PartialEq)]
pub(crate) struct Library {
    /// Names it even where published versions of the same name are dependencies too.
    pub(crate) id: String,
    /// Its features but `default`, in the order of the alphabet.
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
            format!("cargo metadata knows no package {name} in this workspace").into()
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
                .filter(|key| *key != "default")
                .cloned()
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_feature_but_the_default() {
        let metadata = serde_json::json!({"packages": [
            {"name": "other", "id": "o", "features": {"x": []}},
            {"name": "lib", "id": "path+file:///l#lib@1.0.0", "features": {"b": [], "default": ["a"], "a": []}},
        ]});
        let library = Library::read(&metadata, "lib").unwrap();
        assert_eq!(library.features, ["a", "b"]);
        assert_eq!(library.id, "path+file:///l#lib@1.0.0");
        assert_eq!(Library::read(&metadata, "absent"), None);
    }
}
