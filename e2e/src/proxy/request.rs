//! What a request to the API server does: verb, resource, object, told from method, path and query as the API server
//! tells it. Must not look into a body.

use std::fmt;

/// One kind of request; what is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// The resource's plural, or the whole path of what is none (`/version`).
    pub resource: String,
    /// `status`, `log`, …; empty for the object itself.
    pub subresource: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        Ok(())
    }
}

/// A request, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it does.
    pub kind: Kind,
    /// Its namespace; empty for all of them and for what has none.
    pub namespace: String,
    /// Its object; empty for lists, watches and creates.
    pub name: String,
}

impl Request {
    /// Takes a request apart. What is no resource gets its path for one, and the verb of its method.
    pub fn of(method: &str, path: &str, query: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (rest, group) = match parts.as_slice() {
            ["api", _version, rest @ ..] => (rest, ""),
            ["apis", group, _version, rest @ ..] => (rest, *group),
            _ => (&[][..], ""),
        };
        let (namespace, resource, name, subresource) = match rest {
            [] => return Self::other(method, path),
            // A namespace is an object of its own too, with two subresources.
            ["namespaces", name, sub @ ("status" | "finalize")] => ("", "namespaces", *name, *sub),
            ["namespaces", namespace, resource, tail @ ..] => {
                let (name, sub) = name_and_sub(tail);
                (*namespace, *resource, name, sub)
            }
            [resource, tail @ ..] => {
                let (name, sub) = name_and_sub(tail);
                ("", *resource, name, sub)
            }
        };
        let watches = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
        let review = group == "authorization.k8s.io" || group == "authentication.k8s.io";
        let verb = match (method, name.is_empty()) {
            ("POST", _) if review => "review",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            (_, _) if watches => "watch",
            (_, true) => "list",
            (_, false) => "get",
        };
        Self {
            kind: Kind {
                verb,
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
            },
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn other(method: &str, path: &str) -> Self {
        let verb = match method {
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "get",
        };
        Self {
            kind: Kind {
                verb,
                resource: path.to_owned(),
                subresource: String::new(),
            },
            namespace: String::new(),
            name: String::new(),
        }
    }

    /// Whether it changes something. A review (may I?) is posted and changes nothing.
    pub fn writes(&self) -> bool {
        matches!(
            self.kind.verb,
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }

    /// Whether it is the leader's sign of life, which is written for ever and is no part of any story.
    pub fn is_lease(&self) -> bool {
        self.kind.resource == "leases"
    }
}

fn name_and_sub<'a>(tail: &[&'a str]) -> (&'a str, &'a str) {
    match tail {
        [] => ("", ""),
        [name] => (name, ""),
        [name, sub, ..] => (name, sub),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_as_the_api_server_tells_it() {
        for (method, path, query, kind, namespace, name) in [
            ("GET", "/api/v1/namespaces", "", "list namespaces", "", ""),
            ("GET", "/api/v1/namespaces/shop", "", "get namespaces", "", "shop"),
            (
                "PUT",
                "/api/v1/namespaces/shop/finalize",
                "",
                "update namespaces/finalize",
                "",
                "shop",
            ),
            (
                "GET",
                "/api/v1/namespaces/shop/pods/a/log",
                "container=x",
                "get pods/log",
                "shop",
                "a",
            ),
            (
                "GET",
                "/api/v1/namespaces/shop/pods",
                "limit=500&watch=true",
                "watch pods",
                "shop",
                "",
            ),
            (
                "GET",
                "/apis/apps/v1/deployments",
                "labelSelector=watch",
                "list deployments",
                "",
                "",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/shop/deployments/web",
                "",
                "patch deployments",
                "shop",
                "web",
            ),
            (
                "PATCH",
                "/apis/repave.dev/v1alpha1/namespaces/p/baseimages/b/status",
                "fieldManager=x",
                "patch baseimages/status",
                "p",
                "b",
            ),
            ("POST", "/apis/batch/v1/namespaces/p/jobs", "", "create jobs", "p", ""),
            (
                "DELETE",
                "/apis/batch/v1/namespaces/p/jobs/x",
                "",
                "delete jobs",
                "p",
                "x",
            ),
            (
                "DELETE",
                "/apis/batch/v1/namespaces/p/jobs",
                "",
                "deletecollection jobs",
                "p",
                "",
            ),
            ("GET", "/version", "", "get /version", "", ""),
        ] {
            let request = Request::of(method, path, query);
            assert_eq!(request.kind.to_string(), kind, "{method} {path}");
            assert_eq!((request.namespace.as_str(), request.name.as_str()), (namespace, name));
        }
    }

    #[test]
    fn a_review_changes_nothing_and_a_lease_is_no_part_of_the_story() {
        let review = Request::of("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "");
        assert!(!review.writes(), "{review:?}");
        let lease = Request::of("PATCH", "/apis/coordination.k8s.io/v1/namespaces/r/leases/l", "");
        assert!(lease.writes() && lease.is_lease(), "{lease:?}");
        assert!(!Request::of("GET", "/apis/apps/v1/deployments", "watch=1").writes());
    }
}
