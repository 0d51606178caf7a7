//! What cargo knows of the crates that are built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::command::Invocation;
use super::{Options, TARGET, Tools};

/// The part of `cargo metadata` that is read here; its form is documented for
/// `--format-version=1` (cargo-metadata(1)).
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

/// One crate in one version.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    id: String,
    /// Its name.
    pub(super) name: String,
    /// Its version.
    pub(super) version: String,
    /// Its licence, as an SPDX expression.
    pub(super) license: Option<String>,
    /// Who wrote it, as far as it says.
    pub(super) authors: Vec<String>,
    /// Where it comes from; `None` for a crate of this checkout.
    pub(super) source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    /// `None` for what is linked, else `build` or `dev`.
    kind: Option<String>,
}

impl Package {
    /// Folder of its sources.
    pub(super) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// Whether it runs in the compiler and is in nothing that is linked.
    fn is_macro(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }
}

impl Metadata {
    /// Asks the cargo that builds, about what it builds for the Mac.
    ///
    /// # Errors
    /// Cargo's, or it printed what is not understood.
    pub(super) fn read(tools: &Tools, options: &Options) -> anyhow::Result<Self> {
        let cargo = match tools {
            Tools::OnLinux(it) => it.cargo.as_os_str(),
            Tools::OnMac(_) => "cargo".as_ref(),
        };
        let printed = Invocation::new([cargo])
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform", TARGET])
            .in_folder(&options.root)
            .output()?;
        Self::parse(&printed)
    }

    fn parse(printed: &str) -> anyhow::Result<Self> {
        serde_json::from_str(printed).context("what cargo metadata printed")
    }

    /// A crate by its name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn package(&self, name: &str) -> anyhow::Result<&Package> {
        let found = self.packages.iter().find(|package| package.name == name);
        found.with_context(|| format!("cargo metadata knows no {name}"))
    }

    /// The crates whose code is in what is linked of `name`, itself too, by name and version.
    ///
    /// # Errors
    /// There is no such crate.
    pub(super) fn linked(&self, name: &str) -> anyhow::Result<Vec<&Package>> {
        let packages: BTreeMap<&str, &Package> =
            self.packages.iter().map(|package| (package.id.as_str(), package)).collect();
        let nodes: BTreeMap<&str, &Node> =
            self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut found = BTreeSet::new();
        let mut open = vec![self.package(name)?.id.as_str()];
        while let Some(id) = open.pop() {
            let package = packages.get(id).with_context(|| format!("cargo names no crate {id}"))?;
            if package.is_macro() || !found.insert(id) {
                continue;
            }
            let needs = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            let linked = needs.filter(|it| it.dep_kinds.iter().any(|it| it.kind.is_none()));
            open.extend(linked.map(|it| it.pkg.as_str()));
        }
        let mut linked: Vec<&Package> =
            found.iter().filter_map(|id| packages.get(id)).copied().collect();
        linked.sort_by_key(|package| (&package.name, &package.version));
        Ok(linked)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn package(name: &str, kind: &str) -> Value {
        json!({
            "id": format!("{name} 1"), "name": name, "version": "1", "license": "MIT",
            "authors": [], "source": "registry", "manifest_path": format!("/crates/{name}/Cargo.toml"),
            "targets": [{ "kind": [kind] }],
        })
    }

    fn node(name: &str, needs: &[(&str, Option<&str>)]) -> Value {
        let need = |(name, kind): &(&str, Option<&str>)| json!({ "pkg": format!("{name} 1"), "dep_kinds": [{ "kind": kind, "target": null }] });
        json!({ "id": format!("{name} 1"), "deps": needs.iter().map(need).collect::<Vec<_>>() })
    }

    #[test]
    fn what_is_linked_is_neither_a_macro_nor_for_builds_and_tests() {
        let metadata = json!({
            "packages": [
                package("ours", "bin"), package("used", "lib"), package("deep", "lib"),
                package("derive", "proc-macro"), package("syntax", "lib"),
                package("builder", "lib"), package("checker", "lib"), package("stranger", "lib"),
            ],
            "resolve": { "nodes": [
                node("ours", &[("used", None), ("derive", None), ("checker", Some("dev"))]),
                node("used", &[("deep", None), ("builder", Some("build"))]),
                node("derive", &[("syntax", None)]),
                // A circle by tests is usual.
                node("deep", &[("ours", Some("dev"))]),
                node("stranger", &[("deep", None)]),
            ] },
        });
        let metadata = Metadata::parse(&metadata.to_string()).unwrap();
        let names: Vec<&str> =
            metadata.linked("ours").unwrap().iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["deep", "ours", "used"]);
        assert_eq!(metadata.package("used").unwrap().folder(), Path::new("/crates/used"));
        assert!(metadata.linked("nothing").is_err());
        assert!(Metadata::parse("{}").is_err());
    }
}
