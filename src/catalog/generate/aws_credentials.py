"""Which operations answer with something that works past the proxy: keys, tokens, passwords, signed URLs.

The names of output members decide, by the lists in ../curated/aws.toml: `members` always, `marked` where the
model calls the value sensitive. Operations of `except` answer with something that opens nothing.
"""


class Credentials:
    def __init__(self, curated):
        outputs = curated["credential-outputs"]
        self.members, self.marked = set(outputs["members"]), set(outputs["marked"])
        self.excepted = {(prefix, name) for prefix, names in outputs["except"].items() for name in names.split()}
        self.unused = set(self.excepted)

    def leave(self, prefix, operation, op, model):
        shape = op.get("output", {}).get("shape")
        if not shape or not self.found(shape, model["shapes"], set()):
            return False
        self.unused.discard((prefix, operation))
        return (prefix, operation) not in self.excepted

    def found(self, name, shapes, seen):
        if name in seen:
            return False
        seen.add(name)
        shape = shapes[name]
        if shape["type"] == "structure":
            return any(self.is_credential(member, shapes[spec["shape"]]) or self.found(spec["shape"], shapes, seen)
                       for member, spec in shape["members"].items())
        inner = {"list": "member", "map": "value"}.get(shape["type"])
        return inner is not None and self.found(shape[inner]["shape"], shapes, seen)

    def is_credential(self, member, shape):
        if shape["type"] not in ("string", "blob") or "enum" in shape:
            return False
        member = member.lower()
        return member in self.members or member in self.marked and bool(shape.get("sensitive"))
