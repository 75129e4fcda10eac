//! nginx and haproxy in front of servers, as they come: with no more said than where the servers are.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::eventually;
use crate::process::{Folder, Process, free_port};

/// A reverse proxy, killed on drop.
pub struct ReverseProxy {
    address: SocketAddr,
    _process: Process,
    _folder: Folder,
}

impl ReverseProxy {
    /// nginx, which asks these servers in turn.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn nginx(servers: &[SocketAddr]) -> ReverseProxy {
        ReverseProxy::start("nginx", |port, folder| {
            let servers = servers.iter().fold(String::new(), |mut servers, server| {
                write!(servers, "server {server}; ").expect("a String takes every write");
                servers
            });
            format!(
                "daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{ worker_connections 1024; }}\n\
                 http {{\n\
                 access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
                 upstream fanfare {{ {servers} }}\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://fanfare; }} }}\n\
                 }}\n"
            )
        })
    }

    /// haproxy, which asks these servers in turn, with the times of Debian's own configuration.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn haproxy(servers: &[SocketAddr]) -> ReverseProxy {
        ReverseProxy::start("haproxy", |port, _| {
            let mut config = format!(
                "defaults\n mode http\n timeout connect 5000\n timeout client 50000\n timeout server 50000\n\
                 frontend all\n bind 127.0.0.1:{port}\n default_backend fanfare\nbackend fanfare\n"
            );
            for (index, server) in servers.iter().enumerate() {
                writeln!(config, " server s{index} {server}").expect("a String takes every write");
            }
            config
        })
    }

    fn start(program: &str, config: impl FnOnce(u16, &str) -> String) -> ReverseProxy {
        let (folder, port) = (Folder::new(program), free_port());
        let path = folder.path().join("config");
        fs::write(&path, config(port, &folder.path().display().to_string())).expect("a fresh folder takes a file");
        let mut command = Process::command(program, None);
        let flag = if program == "nginx" { "-c" } else { "-f" };
        command.arg(flag).arg(&path);
        // Debian has both in /usr/sbin, which is not in the path of everybody.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut process = Process::spawn(command.env("PATH", format!("{path}:/usr/sbin")));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually(&format!("{program} listens"), || {
            assert!(process.exited().is_none(), "{program} does not start (tests/run installs it)");
            TcpStream::connect(address).ok()
        });
        ReverseProxy { address, _process: process, _folder: folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
