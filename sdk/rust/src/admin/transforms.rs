//! Transforms (ETL) of a cluster.

use serde::Deserialize;
use serde_json::{Value, json};

use super::rest::{AdminApi, or_empty};
use crate::error::Result;

/// A transform of a cluster.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Module {
    /// Its name.
    pub name: String,
    /// The version that runs; 0: none.
    #[serde(default)]
    pub active: u32,
    /// active, disabled, or budget-spent: it failed too often.
    #[serde(default)]
    pub state: String,
    /// Why it is in that state, where somebody said.
    #[serde(default)]
    pub reason: String,
    /// inline or async.
    #[serde(default)]
    pub mode: String,
    /// The topics that it transforms.
    #[serde(default, deserialize_with = "or_empty")]
    pub topics: Vec<String>,
    /// Its versions.
    #[serde(default, deserialize_with = "or_empty")]
    pub versions: Vec<ModuleVersion>,
}

/// A version of a module.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ModuleVersion {
    /// Its number, from 1.
    pub number: u32,
    /// Of its code.
    #[serde(default)]
    pub sha256: String,
    /// Size of its code.
    #[serde(default)]
    pub bytes: i64,
    /// Its spec; null in lists.
    #[serde(default)]
    pub spec: Value,
}

/// A version of a module to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    code: Code,
    spec: Value,
    disabled: bool,
    dry_run: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Code {
    Wasm(Vec<u8>),
    Battery(String),
}

impl Deployment {
    /// Of a module's code; `docs/etl.md` has the fields of the spec.
    pub fn wasm(code: impl Into<Vec<u8>>, spec: Value) -> Self {
        Deployment { code: Code::Wasm(code.into()), spec, disabled: false, dry_run: false }
    }

    /// Of a module that comes with rustmq, by its name.
    pub fn battery(name: impl Into<String>, spec: Value) -> Self {
        Deployment { code: Code::Battery(name.into()), spec, disabled: false, dry_run: false }
    }

    /// Another version, or none, stays active.
    pub fn disabled(mut self) -> Self {
        self.disabled = true;
        self
    }

    /// Nothing is changed.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl AdminApi {
    /// Deploys a version of a module, and returns its number. Unless it is disabled it is active at once.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`], of status 400 where the module is refused.
    pub async fn deploy_module(&self, name: &str, deployment: Deployment) -> Result<u32> {
        #[derive(Deserialize)]
        struct Uploaded {
            sha256: String,
        }
        #[derive(Deserialize)]
        struct Deployed {
            #[serde(default)]
            version: u32,
        }
        let mut body =
            json!({ "spec": deployment.spec, "disabled": deployment.disabled, "dry_run": deployment.dry_run });
        match deployment.code {
            Code::Battery(battery) => body["battery"] = Value::String(battery),
            Code::Wasm(code) => {
                let uploaded: Uploaded = self.send("POST", "/etl/uploads", "application/wasm", Some(code)).await?;
                body["sha256"] = Value::String(uploaded.sha256);
            }
        }
        let deployed: Deployed = self.call("POST", &format!("{}/versions", path(name)), Some(&body)).await?;
        Ok(deployed.version)
    }

    /// Lists modules.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn modules(&self) -> Result<Vec<Module>> {
        #[derive(Deserialize)]
        struct Listed {
            #[serde(default, deserialize_with = "or_empty")]
            modules: Vec<Module>,
        }
        Ok(self.get::<Listed>("/etl/modules").await?.modules)
    }

    /// Describes a module.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn module(&self, name: &str) -> Result<Module> {
        self.get(&path(name)).await
    }

    /// Makes a version active; 0: the one that was last, or else the newest.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn enable_module(&self, name: &str, version: u32) -> Result<()> {
        let body = if version == 0 { json!({}) } else { json!({ "version": version }) };
        self.change("POST", &format!("{}/enable", path(name)), &body).await
    }

    /// Has none of a module's versions be active.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn disable_module(&self, name: &str, reason: &str) -> Result<()> {
        self.change("POST", &format!("{}/disable", path(name)), &json!({ "reason": reason })).await
    }

    /// Makes the version active that was before.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn rollback_module(&self, name: &str, reason: &str) -> Result<()> {
        self.change("POST", &format!("{}/rollback", path(name)), &json!({ "reason": reason })).await
    }

    /// Deletes a module with all versions; `force`: though one is active.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn delete_module(&self, name: &str, force: bool) -> Result<()> {
        self.send::<Value>("DELETE", &format!("{}?force={force}", path(name)), "", None).await.map(|_| ())
    }

    async fn change(&self, method: &str, path: &str, body: &Value) -> Result<()> {
        self.call::<_, Value>(method, path, Some(body)).await.map(|_| ())
    }
}

/// Where a module is, its name escaped as RFC 3986 has it.
fn path(name: &str) -> String {
    let mut out = "/etl/modules/".to_owned();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_the_path() {
        assert_eq!(path("strong-1"), "/etl/modules/strong-1");
        assert_eq!(path("a/b?é"), "/etl/modules/a%2Fb%3F%C3%A9");
    }
}
