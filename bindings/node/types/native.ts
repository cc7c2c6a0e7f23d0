// The addon, as the files in `host/` use it.

/** Something of the addon's that is held here, and can only be handed back. */
export interface Handle {
  release(): void;
}

/** What the addon hands over: fours of what is said, the id that it is about, and two values. */
export type Batch = (number | string | Uint8Array | Handle)[];

export interface Native {
  /** What it gives is the answer, which is otherwise delivered. */
  request(id: number, op: string, on: Handle | null, with_: Handle | null, args: string, bytes: Uint8Array[]): Batch | null;
  work(id: number, call: number, op: string, args: string, bytes: Uint8Array[]): Batch | null;
  abort(id: number): void;
  tell(call: number, op: string, args: string): void;
  gave(call: number, json: string): void;
  threw(call: number, json: string): void;
  body(): Handle;
  logs(id: number, level: number, fn: number): void;
  openCalls(): number;
}

export interface Addon {
  Native: new (deliver: (batch: Batch) => void) => Native;
}
