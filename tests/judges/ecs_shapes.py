"""Prints the input shapes of ECS as botocore has them, in the form of src/sandbox/ecs/shapes.txt."""

import gzip
import json
import pathlib

import botocore

OPERATIONS = {
    "ecs": [
        "RegisterTaskDefinition",
        "DescribeTaskDefinition",
        "ListTaskDefinitions",
        "ListTaskDefinitionFamilies",
        "DeregisterTaskDefinition",
        "DeleteTaskDefinitions",
        "RunTask",
        "StopTask",
        "DescribeTasks",
        "ListTasks",
        "DescribeClusters",
    ],
    "logs": ["GetLogEvents"],
}
SCALARS = {"integer": "integer", "long": "integer", "boolean": "boolean", "string": "string"}


def model(service):
    versions = pathlib.Path(botocore.__path__[0], "data", service).glob("*/service-2.json.gz")
    return json.loads(gzip.decompress(max(versions).read_bytes()))


def lines(service, operations):
    described = model(service)
    shapes = described["shapes"]
    structures = []

    def kind(name):
        shape = shapes[name]
        if shape["type"] == "structure":
            if name not in structures:
                structures.append(name)
            return name
        if shape["type"] == "list":
            return f"[{kind(shape['member']['shape'])}]"
        if shape["type"] == "map":
            return f"{{{kind(shape['value']['shape'])}}}"
        return SCALARS.get(shape["type"], "number")

    for operation in operations:
        kind(described["operations"][operation]["input"]["shape"])
    for name in structures:
        required = shapes[name].get("required", [])
        members = [
            f" {member}{'!' if member in required else ''}={kind(shape['shape'])}"
            for member, shape in shapes[name]["members"].items()
        ]
        yield f"{name}:{''.join(members)}"


for service, operations in OPERATIONS.items():
    for line in lines(service, operations):
        print(line)
