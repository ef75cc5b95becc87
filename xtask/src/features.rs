//! The library's features, from cargo, so that nobody has to maintain a list.

use std::path::PathBuf;

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
    /// Those that bring one kind of store each: they do not build upon each other.
    pub(crate) stores: Vec<String>,
    /// Where cargo puts what it makes.
    pub(crate) target: PathBuf,
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
        let all = package["features"].as_object()?;
        let is_public = |name: &str| name != "default" && !name.starts_with('_');
        let public = || all.iter().filter(|(name, _)| is_public(name));
        let is_store = |name: &str, turns_on: &Value| {
            let others = turns_on.as_array().into_iter().flatten();
            let mut others = others.filter_map(Value::as_str);
            name.ends_with("-session")
                && !others.any(|other| all.contains_key(other) && is_public(other))
        };
        let stores = public().filter(|(name, turns_on)| is_store(name, turns_on));
        Some(Self {
            id: package["id"].as_str()?.to_owned(),
            features: public().map(|(name, _)| name.clone()).collect(),
            stores: stores.map(|(name, _)| name.clone()).collect(),
            target: metadata["target_directory"].as_str()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_what_builds_upon_no_other() {
        let features = serde_json::json!({
            "default": [], "_sql": [], "metrics": [], "x-session": ["_sql", "dep:x"], "y-session": [],
            "x-pool": ["x-session"], "x-actor-session": ["x-session", "dep:actor"],
        });
        let package = serde_json::json!({ "name": "lib", "id": "l", "features": features });
        let metadata = serde_json::json!({ "packages": [package], "target_directory": "t" });
        let library = Library::read(&metadata, "lib");
        assert_eq!(library.unwrap().stores, ["x-session", "y-session"]);
    }

    #[test]
    fn the_list_has_every_feature_that_applications_choose() {
        let metadata = serde_json::json!({"target_directory": "t", "packages": [
            {"name": "other", "id": "o", "features": {"x": []}},
            {"name": "lib", "id": "path+file:///l#lib@1.0.0", "features": {"b": ["_c"], "default": ["a"], "_c": [], "a": []}},
        ]});
        let library = Library::read(&metadata, "lib").unwrap();
        assert_eq!(library.features, ["a", "b"]);
        assert_eq!(library.id, "path+file:///l#lib@1.0.0");
        assert_eq!(Library::read(&metadata, "absent"), None);
    }
}
