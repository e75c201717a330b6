//! Sockets that listen: both families on one port, one address beside all, and the files of Unix-domain sockets.
//! Not here: what is sent over them.

use std::fs;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Proxy, Setup, Wire, refused};

/// A port that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Listeners on these addresses, in this order, each of which answers its number.
fn listeners(binds: &[(String, &str)]) -> String {
    let mut text =
        "watch = false\n[admin]\nlisten = \"off\"\nsocket = \"FOLDER/admin.sock\"\n[workers]\ncount = 2\n".to_owned();
    for (number, (bind, keys)) in binds.iter().enumerate() {
        text += &format!(
            "[[listener]]\nname = \"l{number}\"\nbind = \"{bind}\"\n{keys}\n[[route]]\nlisteners = [\"l{number}\"]\n\
             respond = {{ body = \"{number}\" }}\n"
        );
    }
    text
}

fn answer(address: &str) -> String {
    let mut wire = Wire::connect(address);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.message().unwrap().text().to_owned()
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn one_port_serves_both_families_and_one_address_of_its_own() {
    let port = free_port();
    let mut binds = vec![(format!("127.0.0.1:{port}"), ""), (format!("0.0.0.0:{port}"), "")];
    if has_ipv6() {
        binds.push((format!("[::]:{port}"), ""));
    }
    for _ in 0..2 {
        let proxy = Proxy::start(&listeners(&binds), &[]);
        let expected = |bind: &str| binds.iter().position(|(known, _)| known.starts_with(bind)).unwrap().to_string();
        assert_eq!(answer(&format!("127.0.0.1:{port}")), expected("127"));
        assert_eq!(answer(&format!("127.0.0.2:{port}")), expected("0.0"));
        if has_ipv6() {
            assert_eq!(answer(&format!("[::1]:{port}")), expected("[::]"));
        }
        drop(proxy);
        binds.reverse();
    }
}

#[test]
fn all_addresses_of_ipv6_take_ipv4_if_told_to_and_after_a_reload() {
    if !has_ipv6() {
        return;
    }
    let port = free_port();
    let bind = format!("[::]:{port}");
    let proxy = Proxy::start(&listeners(&[(bind.clone(), "")]), &[]);
    assert_eq!(answer(&format!("[::1]:{port}")), "0");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    proxy.reload(&listeners(&[(bind, "ipv6only = false")]));
    assert_eq!(answer(&format!("127.0.0.1:{port}")), "0");
    assert_eq!(answer(&format!("[::1]:{port}")), "0");
}

/// Another process is blamed for its own sockets alone.
#[test]
fn the_address_of_another_process_is_refused() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let output = refused(&listeners(&[(format!("0.0.0.0:{port}"), "")]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on 0.0.0.0:{port}")) && said.contains("another process"), "{said}");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_socket_file_has_its_mode_and_owner_and_goes_with_the_process() {
    let keys = |mode: &str| format!("mode = \"{mode}\"\nowner = \"{}\"", rustix::process::getuid().as_raw());
    let text = |mode: &str| {
        listeners(&[("unix:FOLDER/in.sock".to_owned(), &keys(mode)), ("unix:FOLDER/old.sock".to_owned(), "")])
    };
    for signal in [true, false] {
        let mut proxy = Proxy::start(&text("0666"), &[]);
        let (path, old) = (proxy.folder().join("in.sock"), proxy.folder().join("old.sock"));
        assert_eq!(mode(&path), 0o666, "whatever the umask");
        assert_eq!(fs::metadata(&path).unwrap().uid(), rustix::process::getuid().as_raw());
        proxy.reload(&text("0600"));
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        if signal {
            proxy.signal(Signal::TERM);
        } else {
            assert!(proxy.verb(&["drain"]).status.success());
        }
        assert!(proxy.wait().success());
        assert!(!path.exists() && !old.exists());
    }
}

#[test]
fn a_socket_that_cannot_be_made_says_why() {
    let output = refused(&listeners(&[("unix:FOLDER/nowhere/in.sock".to_owned(), "")]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("make its directory first"), "{said}");
    let setup = Setup::to(&["127.0.0.1:1"]).listener("bind = \"unix:FOLDER/a.sock\"\nowner = \"no-such-user\"");
    let said = String::from_utf8_lossy(&refused(&setup.text()).stderr).into_owned();
    assert!(said.contains("there is no user \"no-such-user\" in /etc/passwd"), "{said}");
}
