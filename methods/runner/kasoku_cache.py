"""What transformers' caches are and hold: its classes differ from version to version, and so do their layers."""

from __future__ import annotations


def knows_cache_classes() -> bool:
    """Before 4.36 there was only one kind of cache: growing pairs of tensors."""
    import importlib.util

    return importlib.util.find_spec("transformers.cache_utils") is not None


def cache_kind(cache: object) -> str | None:
    """`dynamic`, `static` or `paged`, the class's name where it is neither, None where there is nothing to see."""
    if cache is None:
        return None
    if isinstance(cache, tuple):  # pairs of tensors that grow, as before the cache classes
        return "dynamic"
    name = type(cache).__name__
    return {"DynamicCache": "dynamic", "StaticCache": "static", "PagedAttentionCache": "paged"}.get(name, name)


def reserved_bytes(cache: object) -> tuple:
    """(bytes that a static or a paged cache holds from the start, ""), or (None, the reason)."""
    kind = cache_kind(cache) or (None if knows_cache_classes() else "dynamic")
    if kind is None:
        return None, "The profiled step handed out no cache."
    if kind == "dynamic":
        return None, "Nothing is reserved for the KV cache: it grows with the sequence."
    if kind == "paged":
        return cache.cache_tensor.numel() * cache.cache_tensor.element_size(), ""
    if kind != "static":
        return None, "What a %s reserves is not known." % kind
    tensors = [each for layer in layers_of(cache) for each in held(layer)]
    if not tensors:
        return None, "None of the cache's layers holds a tensor."
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors), ""


def layers_of(cache: object) -> list:
    """A cache's layers; the cache itself where it is of a version whose caches hold all layers' tensors in lists."""
    layers = getattr(cache, "layers", None)
    return [cache] if layers is None else list(layers)


def held(layer: object) -> list:
    """The tensors of a layer of a cache, counters aside, each once: keys and values where it has them, the states of
    convolutions and recurrences, and none where it shares those of another layer.
    """
    found: dict = {}

    def visit(node: object) -> None:
        if hasattr(node, "data_ptr"):
            if node.is_floating_point():
                found[node.data_ptr(), node.shape] = node
        elif isinstance(node, (list, tuple)):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            visit(list(node.values()))

    visit(vars(layer))
    return list(found.values())
