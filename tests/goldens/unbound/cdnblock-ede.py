# Unbound's module `python`: the extended DNS error Censored (RFC 8914, 16) on refusals that an order asks for.
#
# Other answers of Unbound's own, from local zones or policies of somebody else, get none. The names are read again when
# their file changes. Whatever goes wrong here costs an answer its extended error and nothing else.
import os
import struct
import time

NAMES = "/etc/cdnblock/cdnblock-ede.names"
CENSORED, OPTION = 16, 15
LOOK_AGAIN = 1.0  # seconds

errors = {}  # name, "=" before it where it is meant alone: the option's data; None where it is let go
read = None  # what the file was when it was read: modification time and size
next_look = 0.0


def load():
    global errors, read, next_look
    next_look = time.monotonic() + LOOK_AGAIN
    found = os.stat(NAMES)
    if read == (found.st_mtime_ns, found.st_size, found.st_ino):
        return
    texts, names = {}, {}
    with open(NAMES, encoding="utf-8") as lines:
        for line in lines:
            first, _, rest = line.rstrip("\n").partition(" ")
            if first.startswith("@"):
                texts[first] = bytearray(struct.pack("!H", CENSORED) + rest.encode())
            elif first and not first.startswith("#"):
                names[first] = texts.get(rest)
    errors, read = names, (found.st_mtime_ns, found.st_size, found.st_ino)


def error_of(name):
    if "=" + name in errors:
        return errors["=" + name]
    while name:
        if name in errors:
            return errors[name]
        name = name.partition(".")[2]
    return None


def on_local_answer(qinfo, qstate, rep, rcode, edns, opt_list_out, region, **rest):
    try:
        if qinfo is None:  # an answer about Unbound itself
            return True
        if time.monotonic() > next_look:
            load()
        data = error_of(qinfo.qname_str.lower().rstrip("."))
        if data is not None:
            edns_opt_list_append(opt_list_out, OPTION, data, region)
    except Exception as error:
        log_err("cdnblock: %r" % (error,))
    return True


def init_standard(id, env):
    try:
        load()
    except OSError as error:
        log_err("cdnblock: no names for extended errors: %s" % error)
    return register_inplace_cb_reply_local(on_local_answer, env, id)


def deinit(id):
    return True


def inform_super(id, qstate, superqstate, qdata):
    return True


def operate(id, event, qstate, qdata):
    if event in (MODULE_EVENT_NEW, MODULE_EVENT_PASS):
        qstate.ext_state[id] = MODULE_WAIT_MODULE
    elif event == MODULE_EVENT_MODDONE:
        qstate.ext_state[id] = MODULE_FINISHED
    else:
        qstate.ext_state[id] = MODULE_ERROR
    return True
