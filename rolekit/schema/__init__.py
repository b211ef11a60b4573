"""An app as documents for other programs: AsyncAPI of its queues, OpenAPI of its routes.

Made from what the code says, never from settings: so a document is the same wherever the app
runs, and no address or password gets into it.
"""

from rolekit.schema.asyncapi import document as asyncapi
from rolekit.schema.openapi import document as openapi
from rolekit.schema.yaml import as_yaml

__all__ = ["as_yaml", "asyncapi", "openapi"]
