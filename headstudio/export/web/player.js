// The film, written into `values`: play, pause, scrub, speed, and the sound that goes with it. Where there is sound, it is the clock.

class Player {
  constructor(film, values, sound, changed) {
    Object.assign(this, { film, values, sound, changed, time_s: 0, speed: 1, is_playing: false });
    this.slider = byId("frame");
    this.button = byId("play");
    this.slider.max = film.frames - 1;
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => { this.pause(); this.seek(Number(this.slider.value) / film.fps); changed(); });
    byId("speed").addEventListener("change", (event) => {
      this.speed = Number(event.target.value);
      if (sound) sound.playbackRate = this.speed;
    });
    this.seek(0);
  }

  get lasts_s() {
    const heard = this.sound && Number.isFinite(this.sound.duration) ? this.sound.duration : 0;
    return Math.max(this.film.lasts_s, heard);
  }

  get frame() {
    return Math.min(this.time_s * this.film.fps, this.film.frames - 1);
  }

  toggle() {
    if (this.is_playing) this.pause();
    else this.play();
  }

  play() {
    if (this.time_s >= this.lasts_s) this.seek(0);
    this.is_playing = true;
    this.say();
    if (this.sound && !this.sound.ended && !(this.time_s >= this.sound.duration)) {
      this.sound.playbackRate = this.speed;
      this.sound.play().catch(() => { /* a browser without this codec: the film goes on by the clock of the screen */ });
    }
    this.changed();
  }

  pause() {
    if (!this.is_playing) return;
    this.is_playing = false;
    if (this.sound) this.sound.pause();
    this.say();
    this.changed();
  }

  seek(seconds) {
    this.time_s = seconds;
    if (this.sound && this.sound.readyState > 0) this.sound.currentTime = Math.min(seconds, this.sound.duration || 0);
    this.tell();
  }

  // A moment of the screen's clock has passed; without sound the film begins again at its end
  advance(seconds) {
    if (!this.is_playing) return;
    const is_heard = this.sound && !this.sound.paused && !this.sound.ended && this.sound.readyState > 1;
    this.time_s = is_heard ? this.sound.currentTime : this.time_s + seconds * this.speed;
    if (this.time_s >= this.lasts_s) {
      if (this.sound) { this.time_s = this.lasts_s; this.pause(); } else this.time_s %= Math.max(this.lasts_s, 1 / this.film.fps);
    }
    this.tell();
  }

  // Put the head, the slider and the words where the time is
  tell() {
    this.film.at(this.frame, this.values);
    this.slider.value = Math.round(this.frame);
    byId("where").textContent = `${this.time_s.toFixed(1)} s`;
    this.slider.setAttribute("aria-valuetext", `${this.time_s.toFixed(1)} seconds of ${this.lasts_s.toFixed(1)}`);
  }

  say() {
    this.button.textContent = this.is_playing ? "Pause" : "Play";
  }
}
