"""Resource names of a request: how an operation's members fill the ARN formats of its IAM action.

A template is an ARN format with `{P}` partition, `{R}` region, `{A}` account, and `{=Path}` for a member:
names joined by dots, lists entered silently, `#` for the keys of a map. `{=Path}` alone is a member that
holds a whole ARN.
"""

import re

# By its own name or that of its shape a member holds a role, or an instance profile with one in it.
ROLE = re.compile(
    r"^\w*(role|instanceprofile)(arns?|names?|namearn|identifier|override|update|forapplicationarn)?$|rolearn|iamrole|serviceexecutionrole"
    r"|^(authorizer)?credentialsarn$|^deliverlogspermissionarn$", re.I)
ROLE_SHAPE = re.compile(r"role_?(arn|name)$", re.I)
# API Gateway's first version says no more than this.
BARE_ROLES = {"apigateway": {"credentials", "authorizercredentials"}, "es": {"rolesarn"}}
# Names that hold `role` without being one that the service would run as.
NOT_A_ROLE = re.compile(
    r"membershiprole|grafana|editor|admin$|userrolename|^authrole$|securityrole|dbrole|^approle$|grouprole|rolesession|rolefilter|rolealias"
    r"|externalid|impersonation|organizationrole|custompermission|secretmanagerarn|principal|^description$|instanceprofileid|^sessionname$"
    r"|^removeiamroles$", re.I)
# Operations that take a role away from a service, or report one.
NOT_HANDED = re.compile(r"^(Disassociate|Remove|Delete(?!Stack|Resource$)|BatchImportFindings$)")
SUFFIX = re.compile(r"(namewithpath|identifiers?|names?|ids?|arns?|urls?)$")
WHOLE_ARN = ("resourcearn", "arn", "targetarn")
# Variables of ARN formats that go by another member name.
SYNONYMS = {"objectname": ["key"], "securitygroupid": ["groupid", "groupids"], "queuename": ["queueurl"], "mfatokenidwithpath": ["serialnumber"],
            "oidcprovidername": ["openidconnectproviderarn"], "secretid": ["secretid"], "keyid": ["keyid", "targetkeyid"],
            "parameternamewithoutleadingslash": ["name", "names", "path"], "topicname": ["topicarn", "name"],
            "dbclusterinstancename": ["dbclusteridentifier"], "snapshotname": ["dbsnapshotidentifier"],
            "clustersnapshotname": ["dbclustersnapshotidentifier"], "parametergroupname": ["dbparametergroupname"],
            "clusterparametergroupname": ["dbclusterparametergroupname"], "subnetgroupname": ["dbsubnetgroupname"],
            "securitygroupname": ["dbsecuritygroupname"]}
# Operations on roles, not with them.
ROLE_OWNERS = {"iam", "sts", "sso", "account", "account-access"}


def plain(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


def stem(name):
    name = plain(name)
    return SUFFIX.sub("", name) or name


def resource_templates(sources, model, shape_name, actions, prefix, operation):
    members = model["shapes"][shape_name]["members"]
    types = model["shapes"]
    fillable = {
        name: spec for name, spec in members.items()
        if element(types, spec["shape"])["type"] in ("string",) and not spec.get("idempotencyToken")
    }
    found = []
    for action in actions:
        action_prefix, _, action_name = action.partition(":")
        entry = sources.actions.get(action_prefix, {}).get(action_name.lower())
        if not entry:
            continue
        for resource in entry["resourceTypes"]:
            spec = sources.types.get(action_prefix, {}).get(resource["name"].lower())
            if not spec:
                spec = next((t for t in sources.types.get(action_prefix, {}).values() if t["key"] == resource["name"]), None)
            if not spec:
                continue
            template = filled(spec["arn"], resource["name"], fillable, single=len(entry["resourceTypes"]) == 1)
            if template and template not in found:
                found.append(template)
    if not found:
        for name in sorted(fillable):
            if plain(name) in (*WHOLE_ARN, "resourcename") or plain(name) == stem(operation.split("By")[0]) + "arn":
                found.append("{=" + name + "}")
    if not found:
        required = types[shape_name].get("required", [])
        found = ["{=" + name + "}" for name in sorted(fillable) if name in required and plain(name).endswith(("arn", "arns"))]
    return found


def element(types, name):
    shape = types[name]
    while shape["type"] == "list":
        shape = types[shape["member"]["shape"]]
    return shape


def filled(arn, type_name, members, single):
    template = re.sub(r"\$\{(Partition|Region|Account)\}", lambda m: "{" + m.group(1)[0] + "}", arn)
    is_known = False
    variables = re.findall(r"\$\{(\w+)\}", template)
    if not variables or arn.strip() == "*":
        return None
    used = set()
    for position, variable in enumerate(variables):
        is_last = position == len(variables) - 1
        member = member_for(variable, type_name, members, used, is_last, single)
        if member is None and not is_known:
            return None
        is_known = True
        used.add(member)
        template = template.replace("${" + variable + "}", "{=" + member + "}" if member else "*", 1)
    return template


def member_for(variable, type_name, members, used, is_last, single):
    free = [name for name in sorted(members) if name not in used]
    wanted = plain(variable)
    kind = stem(type_name)
    for test in (
        lambda m: plain(m) == wanted,
        lambda m: plain(m) == wanted + "s",
        lambda m: plain(m) in SYNONYMS.get(wanted, ()),
        lambda m: stem(m) == stem(variable) and stem(m) not in ("resource", ""),
        lambda m: stem(m).rstrip("s") == stem(variable).rstrip("s") and len(stem(m)) > 2 and stem(m) != "resource",
        lambda m: is_last and stem(m) == kind,
        lambda m: is_last and stem(m).rstrip("s") == kind.rstrip("s"),
        lambda m: is_last and single and plain(m) in ("identifier", "id", "name", "arn", "resourcearn"),
        lambda m: is_last and plain(m) in ("resourcearn", "arn") and single,
    ):
        for name in free:
            if test(name):
                return name
    return None


def pass_role_paths(model, shape_name, prefix, operation):
    """Paths of the members by which a caller hands a role to the service."""
    paths = []
    if prefix in ROLE_OWNERS:
        return ["RoleName"] if (prefix, operation) == ("iam", "AddRoleToInstanceProfile") else []
    if NOT_HANDED.match(operation):
        return []

    def is_role(member, spec):
        target = element(model["shapes"], spec["shape"])
        if target["type"] != "string" or target.get("enum") or NOT_A_ROLE.search(plain(member)) or "impersonation" in spec["shape"].lower():
            return False
        if prefix == "dms" and "instanceprofile" in plain(member):
            return False  # one of its own
        return bool(ROLE.search(plain(member)) or ROLE_SHAPE.search(spec["shape"]) or plain(member) in BARE_ROLES.get(prefix, ()))

    def walk(name, path, seen):
        shape = model["shapes"][name]
        if name in seen or len(path) > 8:
            return
        if shape["type"] == "structure":
            for member, spec in sorted(shape["members"].items()):
                target = element(model["shapes"], spec["shape"])
                if is_role(member, spec):
                    paths.append(".".join([*path, member]))
                elif target["type"] == "structure" and plain(member) == "iaminstanceprofile":
                    paths.extend(".".join([*path, member, field]) for field in sorted(target["members"]))
                elif target["type"] in ("structure", "map"):
                    walk(spec["shape"], [*path, member], seen | {name})
        elif shape["type"] == "list":
            walk(shape["member"]["shape"], path, seen | {name})
        elif shape["type"] == "map":
            walk(shape["value"]["shape"], [*path, "*"], seen | {name})

    walk(shape_name, [], frozenset())
    return paths[:64]
