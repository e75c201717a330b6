//! Files that change while the process runs, and what leads to them: links, directories, file systems that tell of nothing.
//! Not here: what a reload does (`reload`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{Origin, Proxy, Setup, poll};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn text(watch: &str, body: &str) -> String {
    let setup = Setup::to(&["127.0.0.1:1"]).managed().text().replace("watch = false", &format!("watch = {watch}"));
    setup.replace("cluster = \"app\"\n", &format!("respond = {{ body = \"{body}\" }}\n"))
}

fn answers(proxy: &Proxy, path: &str, body: &str) {
    poll(|| (proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).text() == body).then_some(()));
}

/// Puts a link in the place of another, at once.
fn switch(target: impl AsRef<Path>, link: &Path) {
    let new = link.with_file_name("..new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

#[test]
fn what_is_saved_right_after_the_start_is_read() {
    for round in 0..5 {
        let proxy = Proxy::start(&text("true", "before"), &[]);
        proxy.configure(&text("true", &format!("after {round}")));
        answers(&proxy, "/", &format!("after {round}"));
    }
}

/// As kubelet does it: a directory for each version, a link to it that is switched, and links through that one.
fn volume(proxy: &Proxy, version: usize, name: &str, content: &str) {
    let volume = proxy.folder().join("volume");
    let folder = volume.join(format!("..version_{version}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), content.replace("FOLDER", proxy.folder().to_str().unwrap())).unwrap();
    switch(folder.file_name().unwrap(), &volume.join("..data"));
    let old = volume.join(format!("..version_{}", version - 1));
    if old.exists() {
        fs::remove_dir_all(old).unwrap();
    }
}

#[test]
fn every_switch_of_a_link_on_the_way_is_noticed() {
    for watch in ["true", "\"poll\""] {
        for way in ["volume/..data/cairn.toml", "volume/cairn.toml", "elsewhere/cairn.toml"] {
            let proxy = Proxy::start(&text(watch, "0"), &[]);
            volume(&proxy, 1, "cairn.toml", &text(watch, "1"));
            symlink("..data/cairn.toml", proxy.folder().join("volume/cairn.toml")).unwrap();
            symlink("volume/..data", proxy.folder().join("elsewhere")).unwrap();
            switch(way, &proxy.folder().join("cairn.toml"));
            answers(&proxy, "/", "1");
            for version in 2..5 {
                volume(&proxy, version, "cairn.toml", &text(watch, &version.to_string()));
                answers(&proxy, "/", &version.to_string());
            }
        }
    }
}

#[test]
fn parts_values_and_tenants_are_followed_through_links() {
    let tenant =
        |mark: &str| format!("[[route]]\nhosts = [\"a\"]\npath = \"/red\"\nrespond = {{ body = \"{mark}\" }}\n");
    let root = "[[tenant]]\nname = \"red\"\nfile = \"FOLDER/current/red.toml\"\nclaims = [{ host = \"a\", path_prefix = \"/red\" }]\n\
                [[route]]\npath = \"/value\"\nrespond = { body = \"@FOLDER/current/value\" }\n";
    let release = |folder: &Path, version: usize| {
        let release = folder.join(format!("releases/{version}"));
        fs::create_dir_all(&release).unwrap();
        fs::write(release.join("red.toml"), tenant(&format!("red {version}"))).unwrap();
        fs::write(release.join("value"), format!("value {version}")).unwrap();
        switch(format!("releases/{version}"), &folder.join("current"));
    };
    let proxy = Proxy::start(&text("true", "root"), &[]);
    release(proxy.folder(), 1);
    proxy.configure(&(text("true", "root") + root));
    for version in 1..4 {
        release(proxy.folder(), version);
        answers(&proxy, "/red", &format!("red {version}"));
        answers(&proxy, "/value", &format!("value {version}"));
    }
}

#[test]
fn a_directory_that_is_renamed_and_made_again_is_watched_again() {
    let tenant =
        |mark: &str| format!("[[route]]\nhosts = [\"a\"]\npath = \"/red\"\nrespond = {{ body = \"{mark}\" }}\n");
    let root = "[[tenant]]\nname = \"red\"\nfile = \"FOLDER/teams/red/red.toml\"\nclaims = [{ host = \"a\", path_prefix = \"/red\" }]\n";
    let proxy = Proxy::start(&(text("true", "root") + root), &[]);
    for round in 0..3 {
        // First there is not even the directory above.
        let (team, old) = (proxy.folder().join("teams/red"), proxy.folder().join(format!("old {round}")));
        fs::create_dir_all(&team).unwrap();
        for change in 0..2 {
            fs::write(team.join("red.toml"), tenant(&format!("{round} {change}"))).unwrap();
            answers(&proxy, "/red", &format!("{round} {change}"));
        }
        fs::rename(if round == 1 { team.parent().unwrap() } else { &team }, old).unwrap();
    }
}

/// What is there again when it is looked at, with the same inode, was gone all the same: its watch went with it.
fn is_watched_again(come_back: impl Fn(&Path)) {
    let proxy = Proxy::start(&text("true", "root"), &[]);
    let (home, team) = (proxy.folder().join("home"), proxy.folder().join("team"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&team).unwrap();
    let write = |mark: &str| {
        let red = format!("[[route]]\nhosts = [\"a\"]\npath = \"/red\"\nrespond = {{ body = \"{mark}\" }}\n");
        let tenant = "[[tenant]]\nname = \"red\"\nfile = \"FOLDER/team/red.toml\"\nclaims = [{ host = \"a\", path_prefix = \"/red\" }]\n";
        let root = (text("true", mark) + tenant).replace("FOLDER", proxy.folder().to_str().unwrap());
        fs::write(home.join("cairn.toml"), root).unwrap();
        fs::write(team.join("red.toml"), red).unwrap();
    };
    write("first");
    switch("home/cairn.toml", &proxy.folder().join("cairn.toml"));
    answers(&proxy, "/", "first");
    answers(&proxy, "/red", "first");
    for round in 0..2 {
        come_back(&home);
        come_back(&team);
        for mark in [format!("{round}"), format!("{round}, written again")] {
            write(&mark);
            answers(&proxy, "/", &mark);
            answers(&proxy, "/red", &mark);
        }
    }
}

#[test]
fn a_directory_that_is_renamed_and_renamed_back_is_watched_again() {
    is_watched_again(|folder| {
        let away = folder.with_extension("away");
        fs::rename(folder, &away).unwrap();
        fs::rename(away, folder).unwrap();
    });
}

/// Most file systems give it the number that has become free.
#[test]
fn a_directory_that_is_made_again_at_once_is_watched_again() {
    is_watched_again(|folder| {
        fs::remove_dir_all(folder).unwrap();
        fs::create_dir(folder).unwrap();
    });
}

#[test]
fn polling_sees_what_is_written_in_place() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start(&text("\"poll\"", "1"), &[]);
    for body in ["2", "3", "4"] {
        fs::write(
            proxy.folder().join("cairn.toml"),
            text("\"poll\"", body).replace("FOLDER", proxy.folder().to_str().unwrap()),
        )
        .unwrap();
        answers(&proxy, "/", body);
    }
    // And it goes over to being told, or to not looking at all.
    proxy.reload(&text("true", "5"));
    proxy.configure(&text("true", "6"));
    answers(&proxy, "/", "6");
    proxy.reload(&Setup::to(&[&origin.address]).managed().text());
}
