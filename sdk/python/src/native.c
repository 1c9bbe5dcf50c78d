/* The part of the Python SDK that has to be native: payloads that speak the buffer protocol, and the link.
 *
 * A Buffer counts the views that are alive (`exports`). What has any cannot be handed on, given back or frozen; what was handed on
 * gives no view any more. So no view ever shows a payload that is somebody else's.
 *
 * Built against the stable ABI of CPython 3.11, of which it uses nothing but what 3.10 has under the same name.
 * The link is used by the thread that opened it; a Buffer that another thread drops goes back at that thread's next look.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <baton/link.h>

enum { HEADROOM_BYTES = 128, SMALL_BYTES = 64, LATER_MAX = 65536 };
/* Where a Buffer's bytes are. */
enum { IN_POOL, IN_ITSELF, IN_HEAP };
/* What has become of it. */
enum { HELD, HANDED_OVER, FREED, ENDED };

typedef struct {
    PyObject_HEAD
    uint8_t *at;
    Py_ssize_t len, exports;
    uint64_t offset;
    uint32_t handle, generation;
    unsigned char place, state, rights, is_frozen, is_owned, is_shared;
    uint8_t small[SMALL_BYTES];
} Buffer;

static PyTypeObject *base_type;       /* Buffer, as it is defined here. */
static PyTypeObject *public_type;     /* The class that objects are made of: the package's subclass. */
static PyObject *refusal;             /* Makes an exception of a negative result. */
static PyObject *handed_over, *still_viewed;
/* What other threads dropped. */
static baton_pair *later;
static size_t later_len, later_capacity;

static PyObject *refused(int64_t result) {
    PyObject *error = refusal ? PyObject_CallFunction(refusal, "L", (long long)result) : NULL;
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    } else if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_RuntimeError, "the link refused: %lld", (long long)result);
    }
    return NULL;
}

/* ---- buffers ---- */

static Buffer *new_buffer(void) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(public_type, Py_tp_alloc);
    Buffer *self = (Buffer *)alloc(public_type, 0);
    if (self == NULL) return NULL;
    self->place = IN_ITSELF;
    self->rights = BATON_READ | BATON_WRITE | BATON_PASS;
    self->is_owned = 1;
    self->at = self->small;
    return self;
}

static int is_readonly(const Buffer *self) { return self->is_frozen || !(self->rights & BATON_WRITE); }

/* Whether it can be touched; else the exception is set. */
static int is_held(const Buffer *self) {
    static const char *const WHY[] = {
        [HANDED_OVER] = "this buffer was handed over: it belongs to whoever it was sent to. Copy what you need before you send it, or lend "
                        "it (lend=True), or freeze() it and share it",
        [FREED] = "this buffer was released",
        [ENDED] = "this payload was only lent for a request, and that has been answered: copy what you need before the answer",
    };
    if (self->state == HELD) return 1;
    PyErr_SetString(handed_over, WHY[self->state]);
    return 0;
}

/* Whether nobody looks at it; else the exception is set. */
static int is_unseen(const Buffer *self, const char *what) {
    if (self->exports == 0) return 1;
    PyErr_Format(still_viewed,
                 "cannot %s this buffer: %zd view(s) of it are alive (a memoryview, a NumPy array, an Arrow buffer ...). Release them first: "
                 "`del array`, `view.release()` or a `with memoryview(buffer) as view:` block; or lend the buffer (lend=True)",
                 what, self->exports);
    return 0;
}

static int get_view(PyObject *object, Py_buffer *view, int flags) {
    Buffer *self = (Buffer *)object;
    if (!is_held(self) || PyBuffer_FillInfo(view, object, self->at, self->len, is_readonly(self), flags) != 0) {
        view->obj = NULL;
        return -1;
    }
    self->exports++;
    return 0;
}

static void release_view(PyObject *object, Py_buffer *view) {
    (void)view;
    ((Buffer *)object)->exports--;
}

static void give_back(Buffer *self) {
    if (self->place == IN_HEAP) {
        PyMem_Free(self->at);
    } else if (self->place == IN_POOL && baton_link_free(self->handle, self->generation) == -BATON_EPERM && later_len < LATER_MAX) {
        if (later_len == later_capacity) {
            size_t capacity = later_capacity ? 2 * later_capacity : 64;
            baton_pair *more = PyMem_Realloc(later, capacity * sizeof *later);
            if (more == NULL) return;
            later = more;
            later_capacity = capacity;
        }
        later[later_len++] = (baton_pair){self->handle, self->generation};
        baton_link_wake();
    }
}

static void dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    Buffer *self = (Buffer *)object;
    if (self->state == HELD) give_back(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyObject *release(PyObject *object, PyObject *none) {
    (void)none;
    Buffer *self = (Buffer *)object;
    if (self->state == HELD) {
        if (!is_unseen(self, "release")) return NULL;
        give_back(self);
        self->state = FREED;
    }
    Py_RETURN_NONE;
}

/* What was lent for a request ends with it. */
static PyObject *end(PyObject *object, PyObject *none) {
    (void)none;
    Buffer *self = (Buffer *)object;
    if (self->state == HELD) {
        if (!is_unseen(self, "end")) return NULL;
        give_back(self);
        self->state = ENDED;
    }
    Py_RETURN_NONE;
}

static PyObject *freeze(PyObject *object, PyObject *none) {
    (void)none;
    Buffer *self = (Buffer *)object;
    if (!is_held(self)) return NULL;
    if (!self->is_frozen && !self->is_shared) {
        if (!is_unseen(self, "freeze")) return NULL;
        if (self->place == IN_POOL) {
            /* Who gets a part of it counts from the payload's start. */
            int64_t done = baton_link_narrow(self->handle, self->generation, self->offset, (uint64_t)self->len);
            if (done == 0) done = baton_link_freeze(self->handle, self->generation);
            if (done < 0) return refused(done);
        }
    }
    self->is_frozen = 1;
    Py_INCREF(object);
    return object;
}

static PyObject *revoke_all(PyObject *object, PyObject *none) {
    (void)none;
    Buffer *self = (Buffer *)object;
    if (!is_held(self)) return NULL;
    if (self->place != IN_POOL) return PyLong_FromLong(0);
    int64_t ended = baton_link_revoke(self->handle, self->generation);
    return ended < 0 ? refused(ended) : PyLong_FromLongLong(ended);
}

/* The same bytes as another object's; this one is handed over. For tests without a node. */
static PyObject *moved(PyObject *object, PyObject *none) {
    (void)none;
    Buffer *self = (Buffer *)object;
    if (!is_held(self) || !is_unseen(self, "hand over")) return NULL;
    Buffer *other = new_buffer();
    if (other == NULL) return NULL;
    memcpy(other->small, self->small, sizeof self->small);
    other->at = self->place == IN_ITSELF ? other->small : self->at;
    other->len = self->len;
    other->offset = self->offset;
    other->handle = self->handle;
    other->generation = self->generation;
    other->place = self->place;
    other->rights = self->rights;
    other->is_frozen = self->is_frozen;
    other->is_owned = self->is_owned;
    other->is_shared = self->is_shared;
    self->state = HANDED_OVER;
    return (PyObject *)other;
}

static PyObject *truncate_to(PyObject *object, PyObject *args) {
    Buffer *self = (Buffer *)object;
    Py_ssize_t len;
    if (!PyArg_ParseTuple(args, "n", &len) || !is_held(self) || !is_unseen(self, "truncate")) return NULL;
    if (self->is_frozen || !self->is_owned) return refused(-BATON_EACCES);
    if (len < 0 || len > self->len) {
        PyErr_Format(PyExc_ValueError, "a buffer of %zd bytes cannot be truncated to %zd", self->len, len);
        return NULL;
    }
    self->len = len;
    Py_RETURN_NONE;
}

static Py_ssize_t length(PyObject *object) {
    if (!is_held((Buffer *)object)) return -1;
    return ((Buffer *)object)->len;
}

static PyObject *get_exports(PyObject *object, void *none) { (void)none; return PyLong_FromSsize_t(((Buffer *)object)->exports); }
static PyObject *get_readonly(PyObject *object, void *none) { (void)none; return PyBool_FromLong(is_readonly((Buffer *)object)); }
static PyObject *get_owned(PyObject *object, void *none) {
    (void)none;
    const Buffer *self = (Buffer *)object;
    return PyBool_FromLong(self->state == HELD && self->is_owned);
}
static PyObject *get_frozen(PyObject *object, void *none) {
    (void)none;
    const Buffer *self = (Buffer *)object;
    return PyBool_FromLong(self->is_frozen || self->is_shared);
}
static PyObject *get_lent(PyObject *object, void *none) {
    (void)none;
    const Buffer *self = (Buffer *)object;
    return PyBool_FromLong(self->state == HELD && !self->is_owned && !self->is_shared);
}
static PyObject *get_alive(PyObject *object, void *none) { (void)none; return PyBool_FromLong(((Buffer *)object)->state == HELD); }
static PyObject *get_address(PyObject *object, void *none) {
    (void)none;
    if (!is_held((Buffer *)object)) return NULL;
    return PyLong_FromVoidPtr(((Buffer *)object)->at);
}

static PyMethodDef buffer_methods[] = {
    {"release", release, METH_NOARGS, "Gives the buffer back now, and not when it is collected."},
    {"freeze", freeze, METH_NOARGS, "Makes the payload read-only for everyone, for good; gives the buffer."},
    {"revoke", revoke_all, METH_NOARGS, "Takes the payload away from everyone that it was shared with or lent to; how many that were."},
    {"truncate", truncate_to, METH_VARARGS, "Forgets what is behind the first bytes."},
    {"_end", end, METH_NOARGS, NULL},
    {"_moved", moved, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef buffer_fields[] = {
    {"exports", get_exports, NULL, "Views that are alive.", NULL},
    {"readonly", get_readonly, NULL, "Whether it can only be read.", NULL},
    {"owned", get_owned, NULL, "Whether this function owns it, and may hand it on.", NULL},
    {"frozen", get_frozen, NULL, "Whether it is frozen.", NULL},
    {"lent", get_lent, NULL, "Whether it ends with the request.", NULL},
    {"alive", get_alive, NULL, "Whether it can be touched: it was not handed over, released or ended.", NULL},
    {"_address", get_address, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
/* The stable ABI has the two of the buffer protocol from 3.11 on, under numbers that 3.10 knows too. */
static PyType_Slot buffer_slots[] = {
    {Py_tp_dealloc, dealloc},       {Py_tp_methods, buffer_methods},    {Py_tp_getset, buffer_fields},   {Py_sq_length, length},
    {Py_bf_getbuffer, get_view},    {Py_bf_releasebuffer, release_view}, {0, NULL},
};
static PyType_Spec buffer_spec = {
    .name = "baton._native.Buffer",
    .basicsize = sizeof(Buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = buffer_slots,
};

/* ---- what comes ---- */

static Buffer *payload_of(const baton_event *event) {
    Buffer *self = new_buffer();
    if (self == NULL) return NULL;
    self->len = (Py_ssize_t)event->body_len;
    if (event->flags & BATON_INLINE) {
        if (self->len > SMALL_BYTES) self->len = SMALL_BYTES;
        memcpy(self->small, baton_event_body(event), (size_t)self->len);
        return self;
    }
    self->place = IN_POOL;
    self->at = (uint8_t *)(uintptr_t)(event->body_base + event->body_offset);
    self->offset = event->body_offset;
    self->handle = event->body_handle;
    self->generation = event->body_generation;
    self->rights = (unsigned char)event->rights;
    self->is_shared = (event->flags & BATON_SHARE) != 0;
    self->is_owned = !(event->flags & (BATON_SHARE | BATON_LEND));
    return self;
}

static PyObject *tell(const baton_event *event) {
    PyObject *head = Py_None, *body = Py_None;
    if (event->head_handle != BATON_NONE && event->head_len > 0) {
        const char *at = (const char *)(uintptr_t)(event->head_base + event->head_offset);
        head = PyBytes_FromStringAndSize(at, event->head_len);
    } else {
        Py_INCREF(head);
    }
    if (event->head_handle != BATON_NONE && event->head_handle != event->body_handle)
        baton_link_free(event->head_handle, event->head_generation);
    if (event->flags & BATON_INLINE || event->body_handle != BATON_NONE)
        body = (PyObject *)payload_of(event);
    else
        Py_INCREF(body);
    if (head == NULL || body == NULL) {
        if (body == NULL && event->body_handle != BATON_NONE) baton_link_free(event->body_handle, event->body_generation);
        Py_XDECREF(head);
        Py_XDECREF(body);
        return NULL;
    }
    return Py_BuildValue("(BIHBKKINN)", event->kind, (unsigned)event->tag, event->code, event->flags, (unsigned long long)event->invocation,
                         (unsigned long long)event->deadline_ns, (unsigned)event->from, body, head);
}

static PyObject *next_event(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    baton_event event;
    while (later_len > 0) {
        baton_pair pair = later[--later_len];
        baton_link_free(pair.handle, pair.generation);
    }
    int64_t got = baton_link_next(&event);
    if (got < 0) return refused(got);
    if (got == 0) Py_RETURN_NONE;
    return tell(&event);
}

static PyObject *sleep_for(PyObject *module, PyObject *args) {
    (void)module;
    long long ns;
    if (!PyArg_ParseTuple(args, "L", &ns)) return NULL;
    int64_t slept;
    Py_BEGIN_ALLOW_THREADS
    slept = baton_link_sleep(ns);
    Py_END_ALLOW_THREADS
    if (slept < 0) return refused(slept);
    if (PyErr_CheckSignals() != 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *wait_for(PyObject *module, PyObject *args) {
    (void)module;
    unsigned int tag;
    if (!PyArg_ParseTuple(args, "I", &tag)) return NULL;
    baton_event event;
    int64_t ended;
    Py_BEGIN_ALLOW_THREADS
    ended = baton_link_wait(tag, &event);
    Py_END_ALLOW_THREADS
    return ended < 0 ? refused(ended) : tell(&event);
}

/* ---- what goes out ---- */

/* A message under way: what it is about, and bytes that are copied. */
typedef struct {
    baton_event event;
    Py_buffer copied, head;
    int has_copied;
    const char *copied_at;
    Py_ssize_t copied_len;
    Buffer *sent;
} Message;

static void clear(Message *message) {
    if (message->has_copied) PyBuffer_Release(&message->copied);
    PyBuffer_Release(&message->head);
}

/* Whether a part lies inside; its length if that is not said. */
static int is_inside(Py_ssize_t whole, Py_ssize_t offset, Py_ssize_t *len) {
    if (*len < 0) *len = whole - offset;
    if (offset >= 0 && *len >= 0 && offset <= whole && *len <= whole - offset) return 1;
    PyErr_SetString(PyExc_ValueError, "a part that does not lie inside of its buffer");
    return 0;
}

/* Puts what is to be sent into a message: nothing, a Buffer (from `offset`, `len` bytes), or anything that has bytes. */
static int put(Message *message, PyObject *body, Py_ssize_t offset, Py_ssize_t len, int lends) {
    baton_event *event = &message->event;
    if (body == Py_None) return 0;
    if (!PyObject_TypeCheck(body, base_type) || ((Buffer *)body)->place != IN_POOL) {
        if (PyObject_TypeCheck(body, base_type) && !lends && !((Buffer *)body)->is_frozen) {
            if (!is_held((Buffer *)body) || !is_unseen((Buffer *)body, "hand over")) return -1;
            message->sent = (Buffer *)body;
        }
        if (PyObject_GetBuffer(body, &message->copied, PyBUF_SIMPLE) != 0) return -1;
        message->has_copied = 1;
        if (!is_inside(message->copied.len, offset, &len)) return -1;
        /* Not NULL where there are no bytes: that is no payload, and not what the event says. */
        message->copied_at = message->copied.buf == NULL ? "" : (const char *)message->copied.buf + offset;
        message->copied_len = len;
        return 0;
    }
    Buffer *self = (Buffer *)body;
    if (!is_held(self) || !is_inside(self->len, offset, &len)) return -1;
    event->body_handle = self->handle;
    event->body_generation = self->generation;
    event->body_offset = self->offset + (uint64_t)offset;
    event->body_len = (uint64_t)len;
    if (self->is_frozen || self->is_shared) {
        event->flags |= BATON_SHARE;
    } else if (lends) {
        event->flags |= BATON_LEND;
        event->rights = lends > 1 && !is_readonly(self) ? BATON_READ | BATON_WRITE | BATON_PASS : BATON_READ | BATON_PASS;
    } else {
        if (!is_unseen(self, "hand over")) return -1;
        message->sent = self;
    }
    return 0;
}

static Message message_about(unsigned tag, unsigned code, unsigned flags) {
    Message message;
    memset(&message, 0, sizeof message);
    message.event.tag = tag;
    message.event.code = (uint16_t)code;
    message.event.flags = (uint8_t)flags;
    message.event.body_handle = message.event.head_handle = BATON_NONE;
    return message;
}

/* It is gone: handed over, or for what was copied as if it were. */
static void forget(Message *message) {
    clear(message);
    if (message->sent == NULL) return;
    if (message->sent->place == IN_HEAP) PyMem_Free(message->sent->at);
    message->sent->state = HANDED_OVER;
}

static PyObject *reply(PyObject *module, PyObject *args) {
    (void)module;
    unsigned tag, status, is_error;
    Py_buffer head;
    PyObject *body;
    Py_ssize_t offset = 0, len = -1;
    if (!PyArg_ParseTuple(args, "IIIy*O|nn", &tag, &status, &is_error, &head, &body, &offset, &len)) return NULL;
    Message message = message_about(tag, status, is_error ? BATON_ERROR : 0);
    message.event.kind = BATON_REPLY;
    message.head = head;
    if (put(&message, body, offset, len, 0) != 0) {
        clear(&message);
        return NULL;
    }
    int64_t sent = baton_link_reply(&message.event, head.buf, (size_t)head.len, message.copied_at, (size_t)message.copied_len);
    if (sent < 0) {
        clear(&message);
        return refused(sent);
    }
    forget(&message);
    Py_RETURN_NONE;
}

static PyObject *call(PyObject *module, PyObject *args) {
    (void)module;
    unsigned tag, callee, operation;
    unsigned long long deadline_ns;
    int lends;
    Py_buffer head;
    PyObject *body;
    Py_ssize_t offset = 0, len = -1;
    if (!PyArg_ParseTuple(args, "IIIKy*Oi|nn", &tag, &callee, &operation, &deadline_ns, &head, &body, &lends, &offset, &len)) return NULL;
    Message message = message_about(tag, operation, 0);
    message.event.kind = BATON_REQUEST;
    message.event.deadline_ns = deadline_ns;
    message.head = head;
    if (put(&message, body, offset, len, lends) != 0) {
        clear(&message);
        return NULL;
    }
    int64_t made = baton_link_call(callee, &message.event, head.buf, (size_t)head.len, message.copied_at, (size_t)message.copied_len);
    if (made < 0) {
        clear(&message);
        return refused(made);
    }
    forget(&message);
    return PyLong_FromUnsignedLong(message.event.tag);
}

static PyObject *cancel(PyObject *module, PyObject *args) {
    (void)module;
    unsigned tag;
    if (!PyArg_ParseTuple(args, "I", &tag)) return NULL;
    int64_t done = baton_link_cancel(tag);
    return PyBool_FromLong(done == 0);
}

/* A buffer of the pool; or of the heap, for tests without a node. */
static PyObject *alloc(PyObject *module, PyObject *args) {
    (void)module;
    Py_ssize_t len;
    int in_heap = 0;
    if (!PyArg_ParseTuple(args, "n|p", &len, &in_heap)) return NULL;
    if (len < 0) {
        PyErr_SetString(PyExc_ValueError, "a buffer has no negative number of bytes");
        return NULL;
    }
    Buffer *self = new_buffer();
    if (self == NULL) return NULL;
    if (in_heap) {
        self->at = PyMem_Calloc((size_t)(len ? len : 1), 1);
        self->place = IN_HEAP;
        self->len = len;
        if (self->at != NULL) return (PyObject *)self;
        self->place = IN_ITSELF;
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    baton_grant grant;
    int64_t got = baton_link_alloc((uint64_t)len, &grant);
    if (got < 0) {
        Py_DECREF(self);
        return refused(got);
    }
    self->place = IN_POOL;
    self->offset = grant.capacity >= (uint64_t)len + HEADROOM_BYTES ? HEADROOM_BYTES : 0;
    self->at = (uint8_t *)(uintptr_t)grant.base + self->offset;
    self->len = len;
    self->handle = grant.handle;
    self->generation = grant.generation;
    return (PyObject *)self;
}

/* ---- the module ---- */

static PyObject *open_link(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    if (baton_link_abi() != BATON_ABI_VERSION || baton_link_version() >> 16 != BATON_LINK_VERSION >> 16) {
        PyErr_SetString(PyExc_RuntimeError, "this build of baton does not fit its libbaton: build it again");
        return NULL;
    }
    if (baton_link_open() < 0) {
        PyErr_SetString(PyExc_RuntimeError, baton_link_error());
        return NULL;
    }
    return PyLong_FromLongLong(baton_link_concurrency());
}

/* Where the bytes of something lie in one piece, and how many they are; None if they do not. */
static PyObject *span(PyObject *module, PyObject *object) {
    (void)module;
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0) {
        if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError)) return NULL;
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyObject *told = Py_BuildValue("(Kn)", (unsigned long long)(uintptr_t)view.buf, view.len);
    PyBuffer_Release(&view);
    return told;
}

static PyObject *wake(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    baton_link_wake();
    Py_RETURN_NONE;
}

#define NUMBER_FUNCTION(NAME, CALL)                              \
    static PyObject *NAME(PyObject *module, PyObject *none) {    \
        (void)module, (void)none;                                \
        return PyLong_FromLongLong(CALL());                      \
    }
NUMBER_FUNCTION(link_fd, baton_link_fd)
NUMBER_FUNCTION(arm, baton_link_arm)
NUMBER_FUNCTION(disarm, baton_link_disarm)
NUMBER_FUNCTION(deadline, baton_link_deadline)

static PyObject *use(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *type, *maker;
    if (!PyArg_ParseTuple(args, "OO", &type, &maker)) return NULL;
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, base_type)) {
        PyErr_SetString(PyExc_TypeError, "the class of buffers is a subclass of _native.Buffer");
        return NULL;
    }
    Py_INCREF(type);
    Py_INCREF(maker);
    Py_XDECREF((PyObject *)public_type);
    Py_XDECREF(refusal);
    public_type = (PyTypeObject *)type;
    refusal = maker;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"use", use, METH_VARARGS, "Says what class buffers have, and what makes exceptions of refusals."},
    {"open", open_link, METH_NOARGS, "Opens the link; gives the number of requests that may be in hand."},
    {"next", next_event, METH_NOARGS, "The next event, or None."},
    {"sleep", sleep_for, METH_VARARGS, "Sleeps until there may be one."},
    {"wait", wait_for, METH_VARARGS, "Waits for the end of a call."},
    {"reply", reply, METH_VARARGS, "Answers a request."},
    {"call", call, METH_VARARGS, "Calls a function; gives the call's tag."},
    {"cancel", cancel, METH_VARARGS, "Gives a call up."},
    {"alloc", alloc, METH_VARARGS, "Takes a buffer."},
    {"span", span, METH_O, "Where the bytes of something lie, and how many they are."},
    {"wake", wake, METH_NOARGS, "Ends a sleep, from any thread."},
    {"fd", link_fd, METH_NOARGS, "A descriptor that tells the end of an armed sleep."},
    {"arm", arm, METH_NOARGS, "Says that this function sleeps; 0 if there is something to do."},
    {"disarm", disarm, METH_NOARGS, "Awake again."},
    {"deadline", deadline, METH_NOARGS, "Nanoseconds until a call's own time is over; -1 for none."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "baton._native", "Payloads and the link.", -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL) return NULL;
    base_type = public_type = (PyTypeObject *)PyType_FromSpec(&buffer_spec);
    handed_over = PyErr_NewExceptionWithDoc("baton.HandedOver", "The buffer is somebody else's, or gone.", PyExc_BufferError, NULL);
    still_viewed = PyErr_NewExceptionWithDoc("baton.StillViewed", "Views of the buffer are alive.", PyExc_BufferError, NULL);
    if (base_type == NULL || handed_over == NULL || still_viewed == NULL) return NULL;
    Py_INCREF((PyObject *)public_type);
    if (PyModule_AddObjectRef(module, "Buffer", (PyObject *)base_type) < 0 || PyModule_AddObjectRef(module, "HandedOver", handed_over) < 0 ||
        PyModule_AddObjectRef(module, "StillViewed", still_viewed) < 0)
        return NULL;
    return module;
}
