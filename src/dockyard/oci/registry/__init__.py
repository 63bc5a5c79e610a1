"""Registries (the OCI distribution specification): pulling, pushing, copying images and artifacts.

How to use it:

    with HttpRegistries(cache=cache) as registries:            # connect; or MemoryRegistries()
        reference = Reference.parse("python:3.12-slim")
        image = fetch_image(registries, reference, platform)   # pull; layers come when read
        image = pull_layers(image, cache)                      # … or now, into the cache
        repository = registries.repository("r.example/team/app")
        pushed = push_images([image], repository, tags=["v1"], cache=cache, mounts={…})
        push_artifact(Artifact(…), repository, tag="…")        # artifact: other documents
        repository.mount(descriptor, "team/layers")            # api.Repository has all requests

What each module knows:

    api          the protocols: Registries, Repository, Source; Absent, Denied
    connect      HttpRegistries: connections, logins and mirrors, opened when first used
    client       HttpRepository: the specification's requests; uploads, downloads, reading: blobs
    push, pull   what is done with them; tree: what an index holds; artifact: other documents
    memory       the same in memory
    connection   one registry's HTTP; attempts: trying again; refusals: errors
    auth         Basic and tokens; challenge: what is asked; credentials: what users have
    endpoints    hosts, TLS; settings: mirrors, insecure registries
    known        which repositories have a blob; parallel: several at once
"""
