//! Which methods the routes of a host and a path serve, for the Allow of 405 (RFC 9110 section 10.2.1).

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::{Request, Router, Scheme};
use crate::id::ListenerId;

/// Methods that a route without `methods` serves.
const COMMON: [&[u8]; 7] = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"];
/// Most other methods that are listed.
const OTHERS: usize = 8;

/// A request with another method.
struct WithMethod<'a, R> {
    request: &'a R,
    method: &'a [u8],
}

impl<R: Request> Request for WithMethod<'_, R> {
    fn method(&self) -> &[u8] {
        self.method
    }

    fn host(&self) -> &[u8] {
        self.request.host()
    }

    fn path(&self) -> &[u8] {
        self.request.path()
    }

    fn query(&self) -> Option<&[u8]> {
        self.request.query()
    }

    fn header(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.request.header(name)
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.request.client_ip()
    }

    fn identity(&self) -> Option<&str> {
        self.request.identity()
    }

    fn scheme(&self) -> Scheme {
        self.request.scheme()
    }

    fn port(&self) -> Option<u16> {
        self.request.port()
    }
}

impl Router {
    /// Calls `visit` with each method with which the request would have a route that serves it.
    pub fn methods<R: Request>(&self, listener: ListenerId, request: &R, mut visit: impl FnMut(&[u8])) {
        let find = |method| self.find(listener, &WithMethod { request, method });
        COMMON.iter().filter(|method| find(method).is_some()).for_each(|method| visit(method));
        let (mut others, mut count) = ([&b""[..]; OTHERS], 0);
        let _: ControlFlow<()> = self.walk(listener, request, |rule| {
            let conditions = self.conditions[rule.route().index()].as_ref();
            for method in conditions.into_iter().flat_map(|conditions| conditions.methods()) {
                let known = COMMON.contains(&method) || others.contains(&method);
                if !known && let Some(free) = others.get_mut(count) {
                    (*free, count) = (method, count + 1);
                }
            }
            ControlFlow::Continue(())
        });
        for method in &others[..count] {
            if find(method).is_some_and(|route| route.names_method) {
                visit(method);
            }
        }
    }
}
