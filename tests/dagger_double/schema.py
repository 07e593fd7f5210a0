"""The part of Dagger's schema that Rondel asks for; the SDK reads it by introspection."""

from graphql import build_schema, extend_schema, parse

SDL = """
scalar Void
enum ReturnType { SUCCESS FAILURE ANY }
enum ModuleSourceKind { LOCAL_SOURCE GIT_SOURCE DIR_SOURCE }
enum CacheSharingMode { SHARED PRIVATE LOCKED }
enum ExistsType { REGULAR_TYPE DIRECTORY_TYPE SYMLINK_TYPE }

interface Node { id: ID! }

type Query {
  version: String!
  container(platform: String): Container!
  directory: Directory!
  host: Host!
  secret(uri: String!, cacheKey: String): Secret!
  setSecret(name: String!, plaintext: String!): Secret!
  cacheVolume(key: String!): CacheVolume!
  node(id: ID!): Node
  moduleSource(refString: String!, refPin: String, requireKind: ModuleSourceKind): ModuleSource!
}

type Host {
  directory(path: String!, noCache: Boolean): Directory!
  file(path: String!, noCache: Boolean): File!
}

type Secret implements Node { id: ID! }

type CacheVolume implements Node { id: ID! }

type ModuleSource {
  commit: String!
  asModule: Module!
}

type Module {
  name: String!
  serve: Void
}

type Service implements Node {
  id: ID!
  start: ID!
  stop(kill: Boolean): ID!
}

type File implements Node {
  id: ID!
  sync: ID!
  export(path: String!): String!
}

type Directory implements Node {
  id: ID!
  sync: ID!
  exists(path: String!, expectedType: ExistsType): Boolean!
  file(path: String!): File!
  directory(path: String!): Directory!
  withDirectory(path: String!, source: ID!, owner: String): Directory!
  withFile(path: String!, source: ID!, owner: String): Directory!
  withNewDirectory(path: String!, permissions: Int): Directory!
  export(path: String!): String!
}

type Container implements Node {
  id: ID!
  sync: ID!
  from(address: String!): Container!
  imageRef: String!
  user: String!
  withRegistryAuth(address: String!, username: String!, secret: ID!): Container!
  withMountedDirectory(path: String!, source: ID!, owner: String): Container!
  withDirectory(path: String!, source: ID!, owner: String): Container!
  withFile(path: String!, source: ID!, owner: String): Container!
  withNewFile(path: String!, contents: String!): Container!
  withWorkdir(path: String!): Container!
  withEnvVariable(name: String!, value: String!): Container!
  withVolatileVariable(name: String!, value: String!): Container!
  withSecretVariable(name: String!, secret: ID!): Container!
  withMountedSecret(path: String!, source: ID!, owner: String, mode: Int): Container!
  withUser(name: String!): Container!
  withMountedCache(
    path: String!, cache: ID!, sharing: CacheSharingMode, owner: String
  ): Container!
  withExposedPort(port: Int!): Container!
  withServiceBinding(alias: String!, service: ID!): Container!
  asService(args: [String!], useEntrypoint: Boolean): Service!
  withExec(args: [String!]!, useEntrypoint: Boolean, expect: ReturnType): Container!
  exitCode: Int!
  stdout: String!
  stderr: String!
  exists(path: String!, expectedType: ExistsType): Boolean!
  file(path: String!): File!
  directory(path: String!): Directory!
}
"""

# What a module adds once it is served.
MODULE = """
enum Color { RED BLUE }

extend type Query { reportModule: ReportModule! }

type ReportModule {
  checkAll(strict: Boolean = false, names: [String!], n: Int!): String!
  colour(c: Color!): String!
  numbers: [Float!]!
  nothing: Void
  files: Directory!
  one: File!
  take(dir: ID, secret: ID): String!
  ctr: Container!
  fail: String!
}
"""

SCHEMA = build_schema(SDL)
WITH_MODULE = extend_schema(SCHEMA, parse(MODULE))
