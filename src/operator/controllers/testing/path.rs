//! What a request asks for: its path and query, taken apart.

use http::{Method, Uri};
use std::collections::BTreeMap;

/// A request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Plural of the kind.
    pub resource: String,
    /// The part of the object, `status` or `log`.
    pub subresource: Option<String>,
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// The name; `None` for a list or a create.
    pub name: Option<String>,
    /// The query.
    pub query: BTreeMap<String, String>,
}

impl Asked {
    /// Takes `/api/v1/...` or `/apis/<group>/<version>/...` apart.
    pub fn new(uri: &Uri) -> Self {
        let mut parts = uri.path().trim_start_matches('/').split('/');
        let core = parts.next() == Some("api");
        parts.next();
        if !core {
            parts.next();
        }
        let mut parts = parts.map(str::to_owned);
        let (mut namespace, mut resource) = (None, parts.next().unwrap_or_default());
        let mut name = parts.next();
        if resource == "namespaces"
            && let Some(next) = parts.next()
        {
            (namespace, resource, name) = (name, next, parts.next());
        }
        let query = uri.query().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            resource,
            subresource: parts.next(),
            namespace,
            name,
            query: pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect(),
        }
    }

    /// The verb of an audit log.
    pub fn verb(&self, method: &Method) -> &'static str {
        match method.as_str() {
            "GET" if self.query.get("watch").is_some_and(|watch| watch != "false") => "WATCH",
            "GET" if self.name.is_none() => "LIST",
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            other => panic!("no such verb here: {other}"),
        }
    }

    /// `namespace/name`.
    pub fn object(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    }

    /// The resource with its subresource.
    pub fn whole_resource(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.clone(),
        }
    }

    /// Whether an object with these labels is selected: `a=b`, `a`, joined by commas.
    pub fn selects(&self, labels: &serde_json::Value) -> bool {
        let selector = self.query.get("labelSelector").map(String::as_str).unwrap_or_default();
        let terms = selector.split(',').filter(|term| !term.is_empty());
        terms.into_iter().all(|term| match term.split_once('=') {
            Some((key, value)) => labels[key] == value,
            None => !labels[term].is_null(),
        })
    }
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex: String = [rest.next().unwrap(), rest.next().unwrap()]
                    .map(char::from)
                    .iter()
                    .collect();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}
