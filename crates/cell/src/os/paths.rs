//! System calls about files by their paths, and about what files are.

use super::call::{Answer, Call, Step, int, low};
use super::descriptors::Kind;
use super::files::{self, Node, resolve};
use super::identity::UID;
use super::pipes::Ends;
use super::{Errno, Host, Os};

/// What a program learns of a file.
#[derive(Clone, Copy, Debug)]
struct Meta {
    mode: u32,
    size: u64,
    inode: u64,
}

impl Os {
    pub(super) fn path_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, d, e, _] = call.args;
        let cwd = libc::AT_FDCWD;
        Some(match call.number.cast_signed() {
            libc::SYS_open => self.open(call, cwd, a, low(b)),
            libc::SYS_openat => self.open(call, int(a), b, low(c)),
            libc::SYS_stat | libc::SYS_lstat => self.stat(call, (cwd, a), 0, b),
            libc::SYS_fstat => self.fstat(call, low(a), b),
            libc::SYS_newfstatat => self.stat(call, (int(a), b), int(d), c),
            libc::SYS_statx => self.statx(call, (int(a), b), int(c), e),
            libc::SYS_access => self.access(call, (cwd, a), int(b)),
            libc::SYS_faccessat | libc::SYS_faccessat2 => self.access(call, (int(a), b), int(c)),
            libc::SYS_readlink => self.readlink(call, (cwd, a), (b, c)),
            libc::SYS_readlinkat => self.readlink(call, (int(a), b), (c, d)),
            libc::SYS_getcwd if b < 2 => Err(Errno::RANGE),
            libc::SYS_getcwd => call.write(&self.space, a, b"/\0").map(|()| Step::Done(2)),
            libc::SYS_chdir => match self.lookup(call, cwd, a) {
                Ok(Node::Directory { len: 0, .. }) => Ok(Step::Done(0)),
                // Everything is relative to the root, for good.
                Ok(Node::Directory { .. }) => Err(call.refuse(Errno::ACCESS)),
                Ok(_) => Err(Errno::NOTDIR),
                Err(error) => Err(error),
            },
            libc::SYS_getdents64 => self.getdents(call, low(a), (b, c)),
            _ => return None,
        })
    }

    /// What a path of the guest's leads to.
    fn lookup<H: Host>(&mut self, call: &mut Call<'_, H>, base: i32, at: u64) -> Result<Node, Errno> {
        let path = call.read_path(&self.space, at)?;
        self.lookup_path(base, &path)
    }

    fn lookup_path(&self, base: i32, path: &[u8]) -> Result<Node, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let base = if path.starts_with(b"/") || base == libc::AT_FDCWD {
            Vec::new()
        } else {
            match self.descriptors.kind(base.cast_unsigned())? {
                Kind::Node(Node::Directory { sample, len }) => self.files.directory(sample, len),
                _ => return Err(Errno::NOTDIR),
            }
        };
        let node = self.files.find(&resolve(&base, path))?;
        let is_directory = matches!(node, Node::Directory { .. });
        if path.ends_with(b"/") && !is_directory { Err(Errno::NOTDIR) } else { Ok(node) }
    }

    fn open<H: Host>(&mut self, call: &mut Call<'_, H>, base: i32, at: u64, flags: u32) -> Answer {
        let has = |flag: i32| flags & flag.cast_unsigned() == flag.cast_unsigned();
        let found = self.lookup(call, base, at);
        let writes = int(u64::from(flags)) & libc::O_ACCMODE != libc::O_RDONLY || has(libc::O_TRUNC);
        let node = match found {
            Err(Errno::NOENT) if has(libc::O_CREAT) => return Err(call.refuse(Errno::ROFS)),
            found => found?,
        };
        match node {
            _ if has(libc::O_CREAT | libc::O_EXCL) => return Err(Errno::EXIST),
            Node::Directory { .. } if writes => return Err(Errno::ISDIR),
            Node::File(_) | Node::Text(_) if writes => return Err(call.refuse(Errno::ROFS)),
            Node::Directory { .. } => {}
            _ if has(libc::O_DIRECTORY) => return Err(Errno::NOTDIR),
            _ => {}
        }
        let fd = self.descriptors.open(Kind::Node(node), has(libc::O_NONBLOCK), has(libc::O_CLOEXEC))?;
        Ok(Step::Done(u64::from(fd)))
    }

    /// What is in the file of a descriptor.
    pub(super) fn file_of(&self, fd: u32) -> Result<&'static [u8], Errno> {
        match self.descriptors.kind(fd)? {
            Kind::Node(node) => self.files.bytes(node).ok_or(Errno::NODEV),
            _ => Err(Errno::NODEV),
        }
    }

    fn meta_of_node(&self, node: Node) -> Meta {
        let size = self.files.bytes(node).map_or(0, |bytes| bytes.len() as u64);
        match node {
            Node::Directory { sample, len } => Meta {
                mode: libc::S_IFDIR | 0o555,
                size,
                inode: u64::from(sample) << 32 | u64::from(len) | 1 << 63,
            },
            Node::File(index) => {
                Meta { mode: libc::S_IFREG | 0o444, size, inode: 1 << 32 | u64::from(index) }
            }
            Node::Text(index) => Meta { mode: libc::S_IFREG | 0o444, size, inode: 16 + u64::from(index) },
            Node::Null => Meta { mode: libc::S_IFCHR | 0o666, size, inode: 4 },
            Node::Zero => Meta { mode: libc::S_IFCHR | 0o666, size, inode: 5 },
            Node::Random => Meta { mode: libc::S_IFCHR | 0o666, size, inode: 6 },
        }
    }

    fn meta_of_fd(&self, fd: u32) -> Result<Meta, Errno> {
        Ok(match self.descriptors.kind(fd)? {
            Kind::Node(node) => self.meta_of_node(node),
            // Like the pipes that a process has.
            Kind::Input => Meta { mode: libc::S_IFIFO | 0o400, size: 0, inode: 1 },
            Kind::Output(_) => Meta { mode: libc::S_IFIFO | 0o200, size: 0, inode: 2 },
            Kind::Pipe(Ends { from: Some(_), to: Some(_) }) => {
                Meta { mode: libc::S_IFSOCK | 0o600, size: 0, inode: 7 }
            }
            Kind::Pipe(_) => Meta { mode: libc::S_IFIFO | 0o600, size: 0, inode: 8 },
            Kind::Event(_) | Kind::Epoll => Meta { mode: 0o600, size: 0, inode: 3 },
        })
    }

    /// Of a path, or, if that is empty and may be, of the descriptor that it is relative to.
    fn meta<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        (base, at): (i32, u64),
        flags: i32,
    ) -> Result<Meta, Errno> {
        let may_be_empty = flags & libc::AT_EMPTY_PATH != 0;
        // Without an address, newer kernels take it as empty.
        let path = if may_be_empty && at == 0 { Vec::new() } else { call.read_path(&self.space, at)? };
        if path.is_empty() && may_be_empty && base != libc::AT_FDCWD {
            return self.meta_of_fd(base.cast_unsigned());
        }
        let path = if path.is_empty() && may_be_empty { b"/" } else { path.as_slice() };
        self.lookup_path(base, path).map(|node| self.meta_of_node(node))
    }

    fn stat<H: Host>(&mut self, call: &mut Call<'_, H>, path: (i32, u64), flags: i32, to: u64) -> Answer {
        let meta = self.meta(call, path, flags)?;
        self.put_stat(call, meta, to)
    }

    fn fstat<H: Host>(&mut self, call: &mut Call<'_, H>, fd: u32, to: u64) -> Answer {
        let meta = self.meta_of_fd(fd)?;
        self.put_stat(call, meta, to)
    }

    fn put_stat<H: Host>(&mut self, call: &mut Call<'_, H>, meta: Meta, to: u64) -> Answer {
        let mut stat = [0; 144];
        // Device, inode, links, size, block size, blocks; the times are zero.
        for (at, word) in
            [(0, 1), (8, meta.inode), (16, 1), (48, meta.size), (56, 4096), (64, meta.size.div_ceil(512))]
        {
            stat[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        for (at, word) in [(24, meta.mode), (28, UID), (32, UID)] {
            stat[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        call.write(&self.space, to, &stat)?;
        Ok(Step::Done(0))
    }

    fn statx<H: Host>(&mut self, call: &mut Call<'_, H>, path: (i32, u64), flags: i32, to: u64) -> Answer {
        let meta = self.meta(call, path, flags)?;
        let mut statx = [0; 256];
        for (at, word) in
            [(0, libc::STATX_BASIC_STATS), (4, 4096), (16, 1), (20, UID), (24, UID), (28, meta.mode)]
        {
            statx[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        for (at, word) in [(32, meta.inode), (40, meta.size), (48, meta.size.div_ceil(512))] {
            statx[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        call.write(&self.space, to, &statx)?;
        Ok(Step::Done(0))
    }

    fn access<H: Host>(&mut self, call: &mut Call<'_, H>, (base, at): (i32, u64), mode: i32) -> Answer {
        let node = self.lookup(call, base, at)?;
        if mode & !(libc::R_OK | libc::W_OK | libc::X_OK) != 0 {
            return Err(Errno::INVAL);
        }
        let device = matches!(node, Node::Null | Node::Zero | Node::Random);
        if mode & libc::W_OK != 0 && !device {
            return Err(Errno::ROFS);
        }
        if mode & libc::X_OK != 0 && !matches!(node, Node::Directory { .. }) {
            return Err(Errno::ACCESS);
        }
        Ok(Step::Done(0))
    }

    fn readlink<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        (base, at): (i32, u64),
        to: (u64, u64),
    ) -> Answer {
        let path = call.read_path(&self.space, at)?;
        if int(to.1) <= 0 {
            return Err(Errno::INVAL);
        }
        if path != files::SELF_EXECUTABLE {
            return Err(self.lookup_path(base, &path).err().unwrap_or(Errno::INVAL));
        }
        let target = files::EXECUTABLE.as_bytes();
        let len = usize::try_from(to.1).unwrap_or(usize::MAX);
        let target = target.get(..len).unwrap_or(target);
        call.write(&self.space, to.0, target)?;
        Ok(Step::Done(target.len() as u64))
    }

    fn getdents<H: Host>(&mut self, call: &mut Call<'_, H>, fd: u32, (to, len): (u64, u64)) -> Answer {
        let id = self.descriptors.id(fd)?;
        let Kind::Node(Node::Directory { sample, len: path_len }) = self.descriptors.get(id).kind else {
            return Err(Errno::NOTDIR);
        };
        let space = usize::try_from(u64::from(low(len))).unwrap_or(0).min(super::IO_BYTES_MAX);
        let mut from = usize::try_from(self.descriptors.get(id).offset).unwrap_or(usize::MAX);
        let path = self.files.directory(sample, path_len);
        let mut out = Vec::new();
        let mut is_full = false;
        while let Some(entry) = self.files.entry(&path, from) {
            let record = entry_record(&entry);
            if out.len() + record.len() > space {
                is_full = out.is_empty();
                break;
            }
            out.extend(record);
            from = entry.next;
        }
        if is_full {
            return Err(Errno::INVAL);
        }
        call.write(&self.space, to, &out)?;
        self.descriptors.get_mut(id).offset = from as u64;
        Ok(Step::Done(out.len() as u64))
    }
}

/// A directory entry as the kernel writes it.
fn entry_record(entry: &files::Entry) -> Vec<u8> {
    // The name begins behind inode, offset, length and type; a NUL ends it.
    let len = (19 + entry.name.len() + 1).next_multiple_of(8);
    let kind = if entry.is_directory { libc::DT_DIR } else { libc::DT_REG };
    let mut record = Vec::with_capacity(len);
    record.extend((1 << 32 | entry.at as u64).to_le_bytes());
    record.extend((entry.next as u64).to_le_bytes());
    record.extend(u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
    record.push(kind);
    record.extend(entry.name);
    record.resize(len, 0);
    record
}
