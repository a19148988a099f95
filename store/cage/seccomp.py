"""The system call filter. It is a deny-list, because torch and CUDA use hundreds of calls and change them with every release.

A denied call fails with an error and does not kill the process, so a library that only probes for a feature continues without it.
"""

import errno

DENIED = (
    # Other processes: their memory, their descriptors, their state.
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise"),
    # Out of the process group, whose KILL is the last word over whatever was started.
    *("setsid", "setpgid"),
    # Memory and queues that outlive a process, and that any process can find by number or name.
    *("shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl"),
    *("msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"),
    # File systems and namespaces.
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "mount_setattr", "open_by_handle_at"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "unshare", "setns", "swapon", "swapoff", "quotactl"),
    # Parts of the kernel that a computation has no use for, and in which most of its holes were found.
    *("bpf", "keyctl", "add_key", "request_key", "userfaultfd", "perf_event_open", "lookup_dcookie", "syslog"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "iopl", "ioperm", "acct", "vhangup"),
    # The machine itself.
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname"),
)
NAMESPACES = (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEW… of a clone: mounts, cgroups, host names, IPC, users, processes, networks."""


def install() -> None:
    """Filter every call of this process and of its descendants.

    Raises OSError where the kernel refuses, RuntimeError or ImportError where libseccomp is missing.
    """
    # Here and not above: importing it fails where the library is missing, and that costs one layer, not the cage.
    import pyseccomp

    calls = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    refused = pyseccomp.ERRNO(errno.EPERM)
    for name in DENIED:
        try:
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        except OSError:
            continue  # A call that this processor, or this version of the library, does not have.
        calls.add_rule(refused, number)
    for flag in NAMESPACES:
        calls.add_rule(refused, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    # Its flags lie in memory, where a filter cannot look; libc then takes clone.
    calls.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    calls.add_rule(pyseccomp.ERRNO(errno.EACCES), "socket")
    calls.load()
