"""Members for any operation, made up from its input shape."""

import datetime
import random
import re


class Values:
    """Members for an operation: the required ones and, by chance, others."""

    def __init__(self, seed, optional):
        self.random, self.optional, self.in_head = random.Random(seed), optional, False

    def of(self, shape, name="", depth=0):
        if shape.serialization.get("location") in ("header", "headers"):
            self.in_head = True
            try:
                return self.of_kind(shape, name, depth)
            finally:
                self.in_head = False
        return self.of_kind(shape, name, depth)

    def of_kind(self, shape, name, depth):
        kind = shape.type_name
        if kind == "structure":
            return self.structure(shape, depth)
        if kind == "list":
            count = max(shape.metadata.get("min", 1), 1) if depth < 6 else shape.metadata.get("min", 0)
            return [self.of(shape.member, name, depth + 1) for _ in range(min(count + self.random.randint(0, 1), 25))]
        if kind == "map":
            return {self.of(shape.key, "key", depth + 1): self.of(shape.value, name, depth + 1)}
        return self.scalar(shape, kind, name)

    def structure(self, shape, depth):
        if getattr(shape, "is_document_type", False):
            return {"a": [1, "x"]}
        members = dict(shape.members)
        if getattr(shape, "is_tagged_union", False):
            flat = [name for name, member in members.items() if member.type_name not in ("structure", "list", "map")]
            name = self.random.choice(sorted(flat if flat and depth > 4 else members))
            return {name: self.of(members[name], name, depth + 1)}
        chance = self.optional / (1 + depth * depth)
        return {
            name: self.of(member, name, depth + 1)
            for name, member in members.items()
            if (name in shape.required_members and depth < 14) or (name.lower() != "contentlength" and depth < 5 and self.random.random() < chance and not is_awkward(member))
        }

    def scalar(self, shape, kind, name):
        meta = shape.metadata
        if kind == "string":
            return self.string(shape, meta, name)
        if kind in ("integer", "long", "short", "byte"):
            low = meta.get("min", 1)
            return int(min(max(low, 1), meta.get("max", 10**6)))
        if kind in ("float", "double", "bigdecimal"):
            return float(meta.get("min", 1.5))
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "blob":
            return b"a body & its bytes"
        if kind == "timestamp":
            return datetime.datetime(2026, 11, 20, 1, 2, 3, tzinfo=datetime.timezone.utc)
        raise ValueError(kind)

    def string(self, shape, meta, name):
        if shape.enum:
            return self.random.choice(shape.enum)
        if name.lower() in ("accountid", "awsaccountid"):
            return "123456789012"
        if self.in_head:
            return "plain" if name.lower() != "requestroute" else "route"
        low, high = meta.get("min", 1) or 1, meta.get("max", 256) or 256
        lower = name.lower()
        if lower == "bucket":
            return "a-bucket.name" if self.random.random() < 0.3 else "my-bucket"
        if lower.endswith("arn") and high > 40:
            text = "arn:aws:thing:us-west-2:123456789012:kind/with-a-name"
        elif lower == "queueurl":
            text = "https://sqs.us-west-2.amazonaws.com/123456789012/jobs"
        elif lower.endswith("url") and high > 30:
            text = "https://example.com/a/b"
        else:
            text = self.random.choice(["plain", "with-dash", "a.b_c", "Name1"] + ([] if self.optional < 0.1 else ["sl/ash", "a b", "100%", "ü+&="]))
        if pattern := meta.get("pattern"):
            try:
                if not re.search(pattern, text):
                    text = next((t for t in ("plain", "abc-123", "1234567890", "a") if re.search(pattern, t)), "plain")
            except re.error:
                pass
        if len(text) < low:
            text = text + "x" * (low - len(text))
        return text[:high] if len(text) > high else text


def is_awkward(shape):
    return shape.type_name == "structure" and getattr(shape, "event_stream_name", None)
